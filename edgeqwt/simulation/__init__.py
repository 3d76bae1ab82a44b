"""Simulated quantization: settings of papers that no integer kernel runs, on the graph and samples of a build.

No file comes out of it, and none of its figures is one of a file. `sites.py` says which activations are quantized and
what they are, `quantizers.py` how, `weights.py` and `corrections.py` what becomes of a layer, `methods.py` which paper
does which, `simulate.py` goes through the graph once and fits all of it, `study.py` is the table.
"""
