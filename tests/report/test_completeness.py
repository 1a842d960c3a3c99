"""Sentences of what is proved: the limits hold as printed, and nothing unproved is "complete"."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curvtool.report import numbers
from curvtool.report.completeness import completeness_sentences, percent, proved_of_layers
from curvtool.report.json import spectrum_json, spectrum_layers_json
from curvtool.results import (
    WHOLE_MATRIX,
    BlockSpectra,
    Completeness,
    EigenPairs,
    EndProof,
    unproved,
)
from tests import estimates, runs
from tests.report.drawn import any_proof
from tests.report.test_estimates import render as render_layers
from tests.report.test_spectrum import render

VALUES = np.array([5.0, 4.0, 3.0, 2.0, -1.0])


def pairs(completeness: Completeness, which: str = "LM") -> EigenPairs:
    return runs.pairs(VALUES, which=which, completeness=completeness)


def said(completeness: Completeness, which: str = "LM") -> str:
    return " | ".join(completeness_sentences(pairs(completeness, which)))


def one_end(rank: int, limit: float | None, **changes: Any) -> Completeness:
    end = EndProof(listed=5, proved_rank=rank, nothing_beyond=limit, unseen=6.4e-3)
    facts: dict[str, Any] = {"complete": False, "probability": 0.9995, "upper": end}
    return Completeness(**facts | changes)


def test_a_whole_matrix_needs_no_probability() -> None:
    assert said(WHOLE_MATRIX) == "complete: every eigenvalue of the matrix was computed"


@pytest.mark.parametrize(
    ("which", "holds", "short"),
    [
        ("LM", "the 5 eigenvalues of largest magnitude", "short"),
        ("LA", "the 5 largest eigenvalues", "low"),
        ("SA", "the 5 smallest eigenvalues", "high"),
        ("BE", "the 3 largest and 2 smallest eigenvalues", "short"),
    ],
)
def test_a_complete_list_says_of_what(which: str, holds: str, short: str) -> None:
    likely = "99.9 %" if which in {"LM", "BE"} else "99.95 %"
    words = said(runs.proved(VALUES, which), which)
    assert words.startswith(f"complete: with probability {likely} the list holds {holds} of the")
    assert f"copies counted; each may be {short} by at most 1e-4 of its magnitude" in words
    assert words.endswith(". 12 further products")


def test_a_part_says_what_lies_beyond_and_what_may_be_missing() -> None:
    assert said(one_end(3, 0.07194), "LA") == (
        "proved to rank 3 of 5: with probability 99.95 % at most 3 eigenvalues exceed 0.07194, all "
        "listed; below that the list may miss values (chance that one stayed unseen: <= 0.64 %)"
    )
    lower = one_end(1, -0.07194, upper=None, lower=one_end(1, -0.07194).upper, products=1)
    assert said(lower, "SA") == (
        "proved to rank 1 of 5: with probability 99.95 % at most 1 eigenvalue lies below -0.07194, "
        "and it is listed; above that the list may miss values (chance that one stayed unseen: <= "
        "0.64 %). 1 further product"
    )
    assert "no eigenvalue exceeds 5.2;" in said(one_end(0, 5.2), "LA")
    assert "no limit is known" in said(one_end(0, None), "LA")


def test_of_two_ends_each_has_a_line() -> None:
    head, upper, lower = completeness_sentences(pairs(runs.proved(VALUES, "BE", all_of_it=False)))
    assert head == "proved to rank 0 of 5, with probability 99.9 % for both ends together"
    assert upper.startswith("upper end, rank 0 of 3: no eigenvalue exceeds 0.07194; below that")
    assert lower.startswith("lower end, rank 0 of 2: no eigenvalue lies below -0.02341; above")


def test_a_chance_is_not_told_smaller_than_arithmetic_can_vouch_for() -> None:
    end = EndProof(listed=5, proved_rank=3, nothing_beyond=1.0, unseen=1e-30)
    assert "<= 1.0e-08 %" in said(one_end(3, 1.0, upper=end))
    end = EndProof(listed=5, proved_rank=3, nothing_beyond=1.0, unseen=1.0)
    assert "chance" not in said(one_end(3, 1.0, upper=end))


def test_what_was_found_comes_first() -> None:
    two = runs.proved(VALUES)
    words = said(Completeness(**vars(two) | {"found": 2}))
    assert words.startswith("2 values were missing and have been added; complete: with")
    words = said(Completeness(**vars(two) | {"found": 1}))
    assert words.startswith("1 value was missing and has been added; complete: with")


def test_nothing_is_proved_for_a_reason() -> None:
    assert said(unproved("lobpcg was asked for")) == "nothing is proved: lobpcg was asked for"


@settings(max_examples=200)
@given(any_proof(), st.booleans())
def test_only_a_complete_list_is_called_complete(proof: Completeness, plain: bool) -> None:
    run = runs.run(pairs(Completeness(**vars(proof) | {"reason": "no probe"})))
    for text in (render(run, plain=plain), spectrum_json(run)["completeness_sentence"]):
        assert ("complete" in text.lower()) == proof.complete


@settings(max_examples=60)
@given(st.lists(any_proof(), min_size=1, max_size=5))
def test_layers_that_are_not_complete_are_not_called_so(proofs: list[Completeness]) -> None:
    each = [pairs(Completeness(**vars(proof) | {"reason": "no probe"})) for proof in proofs]
    names = [f"l{i}" for i in range(len(each))]
    found = BlockSpectra(names=names, sizes=[9] * len(each), pairs=each)
    whole = sum(proof.complete for proof in proofs)
    for text in (
        render_layers(estimates.blocks_run(found)),
        spectrum_layers_json(estimates.blocks_run(found))["completeness_sentence"],
        proved_of_layers(each),
    ):
        told = re.findall(r"[Cc]omplete in ([\d,]+) of", text)
        assert told == ([str(whole)] if whole else [])
        assert len(re.findall("complete", text, re.IGNORECASE)) == bool(whole)


def test_json_has_the_object_of_the_file() -> None:
    shown = spectrum_json(runs.run(pairs(runs.proved(VALUES, all_of_it=False))))
    assert shown["completeness"] == {
        "complete": False,
        "probability": 0.999,
        "ends": {
            "upper": {"listed": 4, "proved_rank": 1, "nothing_beyond": 0.07194, "unseen": 6.4e-3},
            "lower": {"listed": 1, "proved_rank": 0, "nothing_beyond": -0.02341, "unseen": 6.4e-3},
        },
        "margin": 1e-4,
        "least_margin": 1.2e-5,
        "products": 12,
        "found": 0,
        "reason": "",
    }
    assert shown["completeness_sentence"].startswith("Proved to rank 1 of 5, with probability")


@given(st.floats(0, 1))
def test_a_probability_is_not_told_larger(probability: float) -> None:
    told = Fraction(percent(probability).removesuffix(" %")) / 100
    # A rounding of the double is not a claim: 0.9995 is printed as what it stands for.
    assert told <= Fraction(probability) * (1 + Fraction(2, 10**12))
    assert told > Fraction(probability) - Fraction(1, 10**4)


@given(st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_a_limit_is_rounded_outward_to_four_digits(limit: float, up: bool) -> None:
    told = Fraction(numbers.outward(limit, up=up).replace(",", ""))
    exact = Fraction(repr(limit))
    assert told >= exact if up else told <= exact
    assert abs(told - exact) <= abs(exact) / 1000


@given(st.floats(0, 1e300))
def test_a_short_bound_is_not_smaller(bound: float) -> None:
    told = Fraction(numbers.short_bound(bound).replace(",", ""))
    assert Fraction(repr(bound)) <= told <= Fraction(repr(bound)) * Fraction(11, 10)
