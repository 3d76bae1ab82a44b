"""Which integers weights become: rounding methods that look at what layers read, and structure they keep."""
