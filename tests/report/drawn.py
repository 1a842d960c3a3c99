"""Runs with every text and figure that may appear in their reports drawn freely."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from curvtool.results import (
    WHOLE_MATRIX,
    BlockSpectra,
    Completeness,
    DensityRun,
    DiagRun,
    EndProof,
    Outcome,
    SpectralFunction,
    SpectrumBlocksRun,
    TraceRun,
    unproved,
)
from tests import estimates, runs

# Names may hold box characters of their own; without them, any that appear are ours.
FOREIGN = st.text(
    st.characters().filter(lambda char: not "\u2500" <= char <= "\u25ff"), max_size=50
)
# Sizes times figures must be doubles still.
FINITE = st.floats(-1e280, 1e280)
FIGURES = FINITE | st.sampled_from([np.nan, np.inf, -np.inf])
ERRORS = st.floats(0, 1e280) | st.just(np.inf)
OUTCOMES = st.sampled_from(Outcome)
STATES = ("met", "floor", "open")  # what may have become of a pair


def arrays(size: int, values: st.SearchStrategy[float]) -> st.SearchStrategy[NDArray[np.float64]]:
    return st.lists(values, min_size=size, max_size=size).map(
        lambda found: np.array(found, dtype=np.float64)
    )


def pairs_of_ends(size: int) -> st.SearchStrategy[NDArray[np.float64]]:
    return arrays(2 * size, FIGURES).map(lambda found: found.reshape(size, 2))


@st.composite
def any_trace(draw: st.DrawFn) -> TraceRun:
    L = draw(st.integers(0, 4))
    trace = draw(FIGURES)
    below, above = draw(ERRORS), draw(ERRORS)
    found = estimates.trace(
        trace=trace,
        stderr=draw(ERRORS | st.just(np.nan)),
        interval=(trace - below, trace + above),
        is_interval=draw(st.booleans()),
        degrees_of_freedom=draw(st.floats(min_value=0)),
        rel_err=draw(st.none() | st.floats(0, 1)),
        abs_err=draw(st.none() | ERRORS),
        method=draw(FOREIGN),
        probes=draw(FOREIGN),
        sharing=draw(FOREIGN),
        outcome=draw(OUTCOMES),
        hvps=draw(st.floats(0, 1e12)),
        hvps_by_stage=draw(st.dictionaries(FOREIGN, st.floats(0, 1e12), max_size=3)),
        deflated_trace=draw(FIGURES),
        float64_samples=draw(st.none() | st.integers(0, 64)),
        arithmetic=draw(ERRORS | st.just(np.nan)),
        layers=draw(st.lists(FOREIGN, min_size=L, max_size=L)),
        layer_trace=draw(st.none() | arrays(L, FIGURES)),
        layer_stderr=draw(st.none() | arrays(L, ERRORS | st.just(np.nan))),
        frobenius_squared=draw(st.none() | FIGURES),
        frobenius_squared_stderr=draw(st.none() | ERRORS),
        layer_frobenius_squared=draw(st.none() | arrays(L, FINITE)),
        layer_frobenius_squared_stderr=draw(st.none() | arrays(L, ERRORS)),
        layer_interval=draw(st.none() | pairs_of_ends(L)),
        layer_frobenius_squared_interval=draw(st.none() | pairs_of_ends(L)),
        reason=draw(FOREIGN),
    )
    return estimates.trace_run(found)


FUNCTIONS = st.builds(
    SpectralFunction,
    name=FOREIGN,
    parameter=st.none() | st.floats(),
    value=st.none() | st.floats(),
    interval=st.none() | st.tuples(st.floats(), st.floats()),
    detail=FOREIGN,
)


@st.composite
def any_density(draw: st.DrawFn, layer: str = "") -> Any:
    n, m, g, t = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 4)), 3
    counts = st.floats(0, 1e10)
    levels = np.sort(draw(arrays(t, st.floats(0, 1e9))))
    proved = draw(st.booleans())
    return estimates.density(
        nodes=draw(arrays(n * m, FINITE | st.just(np.nan))).reshape(n, m),
        weights=draw(arrays(n * m, st.floats(0, 1))).reshape(n, m),
        deflated=draw(st.lists(FINITE, max_size=3).map(np.array)),
        grid=np.sort(draw(arrays(g, st.floats(-1e3, 1e3)))),
        density=draw(arrays(g, st.floats(0, 1e9))),
        sigma=draw(st.floats(0, 1e3)),
        size=draw(st.integers(1, 2**50)),
        ends=(draw(FIGURES), draw(FIGURES)),
        zero_band=draw(ERRORS),
        count_interval=draw(arrays(8, counts)).reshape(4, 2) if proved else None,
        levels=levels,
        beyond_interval=draw(arrays(4 * t, counts)).reshape(2, t, 2),
        functions=draw(st.lists(FUNCTIONS, max_size=3)),
        confidence=draw(st.floats(0, 1)),
        method=draw(st.sampled_from(["probes", "dense"])),
        outliers=draw(st.lists(FINITE, max_size=3).map(np.array)),
        reorthogonalized=draw(st.booleans()),
        outcome=draw(OUTCOMES),
        layer=layer,
    )


@st.composite
def any_density_run(draw: st.DrawFn) -> DensityRun:
    names = draw(st.just([""]) | st.lists(FOREIGN.filter(bool), min_size=1, max_size=3))
    return estimates.density_run(*(draw(any_density(name)) for name in names))


@st.composite
def any_diag(draw: st.DrawFn) -> DiagRun:
    L, q = draw(st.integers(0, 4)), draw(st.integers(0, 6))
    found = estimates.diagonal(
        layers=draw(st.lists(FOREIGN, min_size=L, max_size=L)),
        layer_size=draw(arrays(L, st.floats(1, 1e12))),
        layer_mean=draw(arrays(L, FIGURES)),
        layer_mean_stderr=draw(arrays(L, ERRORS | st.just(np.nan))),
        layer_mean_interval=draw(st.none() | pairs_of_ends(L)),
        float64_samples=draw(st.none() | st.integers(0, 64)),
        arithmetic=draw(ERRORS | st.just(np.nan)),
        layer_quantiles=draw(arrays(L * q, FIGURES)).reshape(L, q),
        levels=draw(st.lists(st.floats(0, 1), min_size=q, max_size=q)),
        rel_err=draw(ERRORS | st.just(np.nan)),
        asked=draw(st.none() | ERRORS),
        method=draw(FOREIGN),
        outcome=draw(OUTCOMES),
    )
    return estimates.diag_run(found)


@st.composite
def any_proof(draw: st.DrawFn) -> Completeness:
    """What may be proved of a list, or not."""
    kinds = [None, WHOLE_MATRIX, unproved(draw(FOREIGN))]
    if (found := draw(st.sampled_from(kinds))) is not None:
        return found
    complete = draw(st.booleans())
    ends = draw(st.sampled_from(["upper", "lower", "upper and lower"]))
    return Completeness(
        complete=complete,
        probability=draw(st.floats(0.9, 1)),
        margin=draw(st.floats(0, 1)),
        products=draw(st.integers(0, 10**6)),
        found=draw(st.integers(0, 3)),
        upper=draw(_any_end(all_of_it=complete)) if "upper" in ends else None,
        lower=draw(_any_end(all_of_it=complete)) if "lower" in ends else None,
    )


@st.composite
def _any_end(draw: st.DrawFn, *, all_of_it: bool) -> EndProof:
    listed = draw(st.integers(0, 10**6))
    return EndProof(
        listed=listed,
        proved_rank=listed if all_of_it else draw(st.integers(0, listed)),
        nothing_beyond=draw(st.none() | FINITE),
        unseen=draw(st.floats(0, 1)),
    )


@st.composite
def any_blocks(draw: st.DrawFn) -> SpectrumBlocksRun:
    names = draw(st.lists(FOREIGN, max_size=4))
    pairs = []
    for _ in names:
        values = draw(st.lists(FINITE, max_size=4))
        errors = [draw(ERRORS) for _ in values]
        states = [draw(st.sampled_from(STATES)) for _ in values]
        pairs.append(
            runs.pairs(
                values,
                errors=errors,
                unconverged=[i for i, state in enumerate(states) if state == "open"],
                at_floor=[i for i, state in enumerate(states) if state == "floor"],
                completeness=draw(any_proof()),
            )
        )
    sizes = [draw(st.integers(1, 2**50)) for _ in names]
    return estimates.blocks_run(BlockSpectra(names=names, sizes=sizes, pairs=pairs))


ANY = st.one_of(any_trace(), any_density_run(), any_diag(), any_blocks())
