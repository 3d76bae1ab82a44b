"""What targets do not take, as one table of small functions; a profile says which apply, and with which limit.

A constraint's docstring is what the user reads: its first sentence is the rule, the paragraph that begins with
"Remedy:" what to do. "{limit}" stands for the profile's limit. `docs/targets.md` is written from the same text.
What the rules say was measured with LiteRT 2.1, TFLite Micro of October 2026 and Vela 5.2 (tests/targets); those of
the Edge TPU are its documentation's, https://coral.ai/docs/edgetpu/models-intro/.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeqwt.target import number_rules, op_rules, plugin_rules, shape_rules
from edgeqwt.target.rule import ENTERED, Constraint

# The modules enter their constraints when they are imported.
_MODULES = (op_rules, shape_rules, number_rules, plugin_rules)

CONSTRAINTS: Mapping[str, Constraint] = MappingProxyType(ENTERED)
