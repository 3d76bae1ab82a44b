"""The middle of a build: a float graph goes through techniques, one after the other, and becomes an integer one.

`state.py` is what they hand on, `technique.py` what each of them is, `context.py` what they may ask for, `gate.py` the
samples that nothing is fitted on, `run.py` the loop.
"""
