from __future__ import annotations

import numpy as np
import pytest
import torch

from curvtool.algorithms.layers import Layer, layer_sums, require_inside
from curvtool.algorithms.probes import PER_TERM, SHARED, Kind, probe

CPU = torch.device("cpu")


def draw(
    size: int,
    kind: Kind = "rademacher",
    *,
    seed: int = 0,
    use: int = PER_TERM,
    sweep: int = 0,
    term: int = 0,
) -> torch.Tensor:
    return probe(
        size,
        kind=kind,
        seed=seed,
        use=use,
        sweep=sweep,
        term=term,
        dtype=torch.float64,
        device=CPU,
    )


def test_a_stream_is_its_own_and_repeats() -> None:
    places = [
        (s, u, r, b) for s in (0, 1, -1) for u in (PER_TERM, SHARED) for r in (0, 1) for b in (0, 1)
    ]
    drawn = [draw(4096, seed=s, use=u, sweep=r, term=b) for s, u, r, b in places]
    for i, one in enumerate(drawn):
        s, u, r, b = places[i]
        assert torch.equal(one, draw(4096, seed=s, use=u, sweep=r, term=b))
        for other in drawn[:i]:
            # Of 276 pairs none has a correlation of 5 standard errors, 1 / sqrt(P) each.
            assert abs(float(one @ other)) / 4096 < 5 / 64


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_the_first_moments_are_those_of_the_distribution(kind: Kind) -> None:
    z = draw(200_000, kind=kind)
    fourth = 1.0 if kind == "rademacher" else 3.0
    assert abs(float(z.mean())) < 5 / 200_000**0.5
    assert abs(float(z.square().mean()) - 1) < 5 * (2 / 200_000) ** 0.5
    assert abs(float((z**4).mean()) - fourth) < 5 * (96 / 200_000) ** 0.5  # E z^8 - 9 = 96
    if kind == "rademacher":
        assert set(z.tolist()) == {-1.0, 1.0}


def test_a_probe_does_not_depend_on_the_precision_of_the_vectors() -> None:
    low = probe(65, seed=3, use=SHARED, sweep=2, dtype=torch.float32, device=CPU)
    high = probe(65, seed=3, use=SHARED, sweep=2, dtype=torch.float64, device=CPU)
    assert low.dtype is torch.float32
    assert torch.equal(low.double(), high)


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
