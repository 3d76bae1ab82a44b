"""Which activations share one scale and zero point."""

from __future__ import annotations

from collections.abc import Mapping

Activation = tuple[int, int]
"""A float activation's index and a width in bits: the tensor where it is computed, or its copy at the other width."""


class Groups:
    """Union-find over tensors and copies; a group may have parameters that are not up for choice."""

    def __init__(self, fixed: Mapping[Activation, tuple[float, int]]) -> None:
        self.parent: dict[Activation, Activation] = {}
        self.fixed = dict(fixed)
        self.symmetric: set[Activation] = set()

    def find(self, activation: Activation) -> Activation:
        """The representative of an activation's group: that of the lowest tensor, once groups are tied."""
        root = activation
        while (up := self.parent.setdefault(root, root)) != root:
            root = up
        self.parent[activation] = root
        return root

    def fixed_of(self, activation: Activation) -> tuple[float, int] | None:
        """The scale and zero point that the activation's group has to have; None where they are up for choice."""
        return self.fixed.get(self.find(activation))

    def tie(self, members: list[Activation]) -> None:
        """Makes the groups of some activations one; it keeps the fixed parameters of its representative's, if any."""
        for activation in members[1:]:
            kept, gone = sorted((self.find(members[0]), self.find(activation)))
            self.parent[gone] = kept
            if gone in self.fixed:
                self.fixed.setdefault(kept, self.fixed.pop(gone))

    def tie_alike(self, members: list[Activation]) -> None:
        """Ties those that have the first one's width, and no parameters of their own unless all have the same."""
        alike = [p for p in members if p[1] == members[0][1] and self.fixed_of(p) == self.fixed_of(members[0])]
        self.tie(alike)
