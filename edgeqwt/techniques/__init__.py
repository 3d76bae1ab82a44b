"""One module per technique.

A technique is known by being here, or in a package with an entry point `edgeqwt.techniques`: `registry.py` finds them.
CONTRIBUTING.md says how to add one.
"""
