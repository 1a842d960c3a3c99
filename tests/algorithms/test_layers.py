from __future__ import annotations

import numpy as np
import pytest
import torch

from curvtool.algorithms.layers import Layer, layer_sums, require_inside


def test_sums_over_layers_are_those_of_their_entries_in_float64() -> None:
    x = torch.full((40_000,), 0.1, dtype=torch.float32)
    x[0] = 1e6
    layers = (Layer("a", ((0, 10_000), (30_000, 10_000))), Layer("b", ((10_000, 20_000),)))
    found = layer_sums(x, layers).numpy()
    tenth = float(torch.tensor(0.1, dtype=torch.float32))
    # Exact numbers summed in float64; float32 would lose 0.03 a term beside 1e6.
    assert np.allclose(found, [1e6 + 19_999 * tenth, 20_000 * tenth], rtol=1e-12)


@pytest.mark.parametrize("slices", [(), ((0, 0),), ((5, 6),), ((-1, 3),)])
def test_layers_outside_the_vector_are_refused(slices: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="inside a vector of 10"):
        require_inside([Layer("x", slices)], 10)
