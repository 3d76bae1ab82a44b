"""A float graph and its scales become an integer graph: forms of ops, lookup tables, int4, fake quantization."""
