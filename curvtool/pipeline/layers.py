"""Layers: the sets of parameters that figures are given for, beside the whole."""

from __future__ import annotations

import re

from curvtool.algorithms.layers import Layer
from curvtool.errors import InputError
from curvtool.problem.parameters import ParameterLayout

# Of parameters that a regular expression does not match.
OTHERS = "(others)"
MOST_NAMES = 6


def layers_of(layout: ParameterLayout, group: str | None) -> tuple[Layer, ...]:
    """Divide the parameters into layers, in the order of their first parameters.

    Args:
        layout: of the flat vector.
        group: a regular expression searched for in parameter names: its first group, or the whole
            match, names the layer; None for the modules that own the parameters.

    Returns:
        Layers that cover the vector and do not overlap.

    Raises:
        InputError: where the expression matches no name.
    """
    places = grouped(layout, group)
    return tuple(
        Layer(name, tuple((layout.offsets[i], layout.sizes[i]) for i in of_layer))
        for name, of_layer in places.items()
    )


def grouped(layout: ParameterLayout, group: str | None) -> dict[str, list[int]]:
    """Places of the layers' tensors in the layout, by the layers' names.

    Args:
        layout: of the flat vector.
        group: as for `layers_of`.

    Returns:
        A place in one layer each.

    Raises:
        InputError: where the expression matches no name.
    """
    found: dict[str, list[int]] = {}
    for place, name in enumerate(layout.names):
        found.setdefault(_layer_name(name, group), []).append(place)
    if group is not None and set(found) == {OTHERS}:
        shown = ", ".join(layout.names[:MOST_NAMES])
        raise InputError(
            f"--group {group!r} was expected to match names of parameters; it matches none. They "
            f"begin with: {shown}."
        )
    return found


def _layer_name(name: str, group: str | None) -> str:
    if group is None:
        return name.rpartition(".")[0] or name
    match = re.search(group, name)
    if match is None:
        return OTHERS
    return (match[1] if match.re.groups else match[0]) or OTHERS
