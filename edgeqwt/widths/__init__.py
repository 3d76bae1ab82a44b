"""How many bits weights and activations have: precision, the plan of every op's width, 16-bit regions."""
