"""A file that is there already: shown, refused, replaced or improved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from torch import Tensor

from curvtool.errors import ExitCode
from curvtool.operators.hessian import HessianOperator
from tests.cli.calls import MLP, QUICK, call, refusal, tree

FILE = "digits_mlp.spectrum.h5"


@pytest.fixture
def products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Products made since the last time of asking."""
    monkeypatch.chdir(tmp_path)
    original, made = HessianOperator.matvec, [0]

    def counted(self: HessianOperator, v_P: Tensor, /) -> Tensor:
        made[0] += 1
        return original(self, v_P)

    def taken() -> int:
        number, made[0] = made[0], 0
        return number

    monkeypatch.setattr(HessianOperator, "matvec", counted)
    return taken


def test_the_same_request_is_shown_and_not_computed(products: Callable[[], int]) -> None:
    first = call("spectrum", *QUICK)
    assert products() > 0
    before = tree(Path.cwd())
    again = call("spectrum", *QUICK)
    assert again.code == ExitCode.DONE
    assert products() == 0
    assert again.out == first.out
    assert again.sentence == f"already in {FILE}\n"
    assert tree(Path.cwd()) == before


@pytest.mark.parametrize(
    "free",
    [
        ("--memory", "1GiB"),
        ("--device", "cpu"),
        ("--max-hvps", "1500"),
        ("--tol", "1e-4"),
        ("--json",),
        ("--verbose",),
        ("--trust",),
    ],
)
def test_what_does_not_decide_the_result_does_not_make_another_request(
    products: Callable[[], int], free: tuple[str, ...]
) -> None:
    call("spectrum", *QUICK)
    products()
    assert call("spectrum", *QUICK, *free).code == ExitCode.DONE
    assert products() == 0


def test_the_default_number_of_pairs_is_the_same_request_as_that_number(
    products: Callable[[], int],
) -> None:
    asked = ("spectrum", MLP, "--max-examples", "20", "--tol", "1e-1")
    assert call(*asked).code == ExitCode.DONE
    products()
    assert call(*asked, "--top-k", "20").code == ExitCode.DONE
    assert products() == 0


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (("-k", "3"), "--top-k was 2, now 3"),
        (("--which", "SA"), "--which was LM, now SA"),
        (("--seed", "1"), "--seed was 0, now 1"),
        (("--dtype", "float64"), "--dtype was float32, now float64"),
        (("--max-examples", "90"), "--max-examples was 100, now 90"),
        (("--params", "*.bias"), "--params was not given, now *.bias"),
        (("--weight-decay", "0.1"), "--weight-decay was 0.0, now 0.1"),
        (("--vectors",), "--vectors was not given, now given"),
        (("--loss-kwargs", "label_smoothing=0.1"), "the problem spec"),
    ],
)
def test_another_request_is_refused_and_says_what_differs(
    products: Callable[[], int], other: tuple[str, ...], named: str
) -> None:
    call("spectrum", *QUICK)
    products()
    sentence = refusal("spectrum", *QUICK, *other)
    assert products() == 0
    assert f"holds another run, of {MLP}" in sentence
    assert named in sentence
    # Nothing else is said to differ; --vectors moves the tolerance and what it bounds.
    assert sentence.count(" was ") == (3 if other == ("--vectors",) else 1)
    assert f"curvtool show {FILE}" in sentence
    assert "--force" in sentence


def test_changed_content_under_the_same_name_is_another_request(
    products: Callable[[], int],
) -> None:
    Path("net.pt").write_bytes(MLP.read_bytes())
    Path("digits.npz").write_bytes((MLP.parent / "digits.npz").read_bytes())
    asked = ("net.pt", *QUICK[1:])
    call("spectrum", *asked)
    with Path("net.pt").open("ab") as file:
        file.write(b"\0")
    sentence = refusal("spectrum", *asked)
    assert "the checkpoint's content" in sentence
    assert "the data's content" not in sentence


def test_force_computes_again(products: Callable[[], int]) -> None:
    call("spectrum", *QUICK)
    products()
    assert call("spectrum", *QUICK, "--force").code == ExitCode.DONE
    assert products() > 0
    assert call("spectrum", *QUICK, "-k", "1", "--force").code == ExitCode.DONE
    with h5py.File(FILE) as file:
        assert file["eigenvalues"].shape == (1,)


def test_a_stopped_run_is_computed_again_when_more_products_are_allowed(
    products: Callable[[], int],
) -> None:
    asked = ("spectrum", MLP, "--max-examples", "100", "-k", "4")
    stopped = call(*asked, "--max-hvps", "5")
    assert stopped.code == ExitCode.NOT_CONVERGED
    products()
    for fewer in ("5", "4"):
        again = call(*asked, "--max-hvps", fewer)
        assert again.code == ExitCode.NOT_CONVERGED
        assert products() == 0
        assert again.out == stopped.out
    more = call(*asked, "--json")
    assert more.code == ExitCode.DONE
    assert products() > 0
    assert json.loads(more.out)["all_converged"] is True


def test_out_names_the_file_and_its_folder(products: Callable[[], int], tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    ended = call("spectrum", *QUICK, "-o", "deep/run.h5")
    assert ended.sentence == "written to deep/run.h5\n"
    assert list(tree(tmp_path)) == ["deep/run.h5"]
