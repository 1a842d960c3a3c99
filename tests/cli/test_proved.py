"""`--complete` and `--tol` on a run that is there: shown, computed on, and the exit code it has."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from curvtool.cli.solving import proved_enough, satisfies
from curvtool.config import ComputeConfig, ProblemConfig, SpectrumConfig
from curvtool.errors import ExitCode, UsageError
from curvtool.operators.hessian import HessianOperator
from curvtool.results import WHOLE_MATRIX, Outcome, unproved
from curvtool.storage.spectrum import read_spectrum, write_spectrum
from tests import runs
from tests.cli.calls import QUICK, call

FILE = Path("digits_mlp.spectrum.h5")
PARTLY = runs.proved(np.array([3.0, 2.0]), all_of_it=False)


def config(**changes: Any) -> SpectrumConfig:
    problem = ProblemConfig(checkpoint=Path("a.pt"))
    return SpectrumConfig(problem=problem, compute=ComputeConfig(), **changes)


@pytest.fixture
def products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Products made since the last time of asking; a run is there already."""
    monkeypatch.chdir(tmp_path)
    original, made = HessianOperator.matvec, [0]

    def counted(self: HessianOperator, v_P: Tensor, /) -> Tensor:
        made[0] += 1
        return original(self, v_P)

    def taken() -> int:
        number, made[0] = made[0], 0
        return number

    assert call("spectrum", *QUICK).code == ExitCode.DONE
    monkeypatch.setattr(HessianOperator, "matvec", counted)
    return taken


def rewrite(*, asked: Mapping[str, Any] | None = None, **changes: Any) -> None:
    """Make the run that is there end in another way."""
    run = read_spectrum(FILE)
    pairs = dataclasses.replace(run.pairs, **changes)
    stored = {**run.config, **(asked or {})}
    write_spectrum(FILE, dataclasses.replace(run, pairs=pairs, config=stored))


def test_a_list_that_is_proved_is_complete_enough(products: Callable[[], int]) -> None:
    rewrite(completeness=runs.proved(np.array([3.0, 2.0])))
    assert call("spectrum", *QUICK, "--complete").code == ExitCode.DONE
    assert products() == 0


@pytest.mark.parametrize("proof", [PARTLY, unproved("the products ran out")])
def test_a_list_that_is_not_proved_is_computed_on(products: Callable[[], int], proof: Any) -> None:
    rewrite(completeness=proof)
    shown = call("spectrum", *QUICK)
    assert shown.code == ExitCode.DONE
    assert products() == 0
    assert "omplete" not in shown.out
    proved = call("spectrum", *QUICK, "--complete", "--json")
    assert proved.code == ExitCode.DONE
    assert products() > 0
    assert json.loads(proved.out)["completeness"]["complete"] is True


def test_what_could_not_be_proved_ends_as_it_ended(products: Callable[[], int]) -> None:
    rewrite(
        completeness=PARTLY,
        outcome=Outcome.INCOMPLETE,
        asked={"complete": True, "max_hvps": 50},
    )
    for more in ((), ("--complete", "--max-hvps", "50"), ("--complete", "--max-hvps", "40")):
        ended = call("spectrum", *QUICK, *more)
        assert ended.code == ExitCode.NOT_CONVERGED
        assert "the list was not proved complete" in " ".join(ended.out.split())
        assert products() == 0
    assert call("spectrum", *QUICK, "--complete").code == ExitCode.DONE
    assert products() > 0


def test_the_floor_is_a_failure_where_the_tolerance_was_asked_for(
    products: Callable[[], int],
) -> None:
    floor: dict[str, Any] = {
        "outcome": Outcome.FLOOR,
        "converged": np.array([True, False]),
        "at_floor": np.array([False, True]),
    }
    rewrite(**floor)
    assert call("spectrum", *QUICK).code == ExitCode.DONE
    assert call("spectrum", *QUICK, "--tol", "1e-4").code == ExitCode.NOT_CONVERGED
    rewrite(**floor, asked={"tol_given": True})
    ended = call("spectrum", *QUICK)
    assert ended.code == ExitCode.NOT_CONVERGED
    assert "1 met the tolerance, 1 stopped at float32's limit" in " ".join(ended.out.split())
    assert products() == 0


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_met_the_tolerance_satisfies_who_asked_for_one(outcome: Outcome) -> None:
    fine = {Outcome.CONVERGED, Outcome.FLOOR}
    assert satisfies(outcome, config(), {}) == (outcome in fine)
    for now, then in ((True, False), (False, True), (True, True)):
        found = satisfies(outcome, config(tol_given=now), {"tol_given": then})
        assert found == (outcome is Outcome.CONVERGED)


def test_one_list_of_many_that_is_not_proved_is_computed_on() -> None:
    asked = config(complete=True, max_hvps=100)
    assert proved_enough([WHOLE_MATRIX, WHOLE_MATRIX], asked, {})
    assert not proved_enough([WHOLE_MATRIX, PARTLY], asked, {"max_hvps": 100})
    assert not proved_enough([PARTLY], asked, {"max_hvps": 99, "complete": True})
    assert proved_enough([PARTLY], asked, {"max_hvps": 100, "complete": True})
    assert proved_enough([PARTLY], config(), {})


def test_what_will_do_is_no_part_of_the_request() -> None:
    assert config().request() == config(tol_given=True, complete=True).request()


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "power", "which": "LA"},
        {"method": "lobpcg", "which": "LA"},
        {"basis_dtype": "bfloat16"},
    ],
)
def test_what_proves_nothing_cannot_be_asked_for_a_proof(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--complete needs a probe"):
        config(complete=True, **changes)
