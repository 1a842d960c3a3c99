"""What version 0.1.0 left on disks: its run files are shown, its states continued or refused.

Letters: P parameters.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, hessian

from curvtool.errors import ExitCode
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.storage.state import StateFolder
from tests.cli.calls import call, tree

FOLDER = Path(__file__).parents[1] / "storage" / "version_1"
NAMES = sorted(path.name.removesuffix(".h5.gz") for path in FOLDER.glob("*.h5.gz"))
KINDS = {"spectrum", "spectrum-layers", "trace", "density", "diag", "bench", "track"}
PROBLEM = "step_40.pt"
LAYERS = {"layers.0": slice(0, 24), "layers.1": slice(24, 38)}
# The interrupted commands, whose states lie in FOLDER.
HALF_DONE = {
    "spectrum": "-k 4 --method lanczos --tol 1e-4 --batch-size 16 --vectors",
    "trace": "--per-layer --frobenius --rel-err 0.1 --method hutchinson --batch-size 16",
    "density": "-n 3 -m 8 --damping 0.1 --schatten 2",
}
# Words with which a state of that version is refused, None while it is continued. When a version
# draws other random numbers it must refuse such states: then this line changes, and no other.
REFUSED_WITH: str | None = "saved by an earlier curvtool, whose random vectors had other numbers"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the problem, which commands run in."""
    for name in (PROBLEM, "data.npz"):
        shutil.copy(FOLDER / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def H_PP() -> NDArray[np.float64]:
    """The Hessian, in float64 and by plain torch."""
    with np.load(FOLDER / "data.npz") as data:
        x, y = torch.from_numpy(data["x"]).double(), torch.from_numpy(data["y"])
    weights = torch.load(FOLDER / PROBLEM, weights_only=True)["model"]
    model = BUILTIN_MODELS["mlp"](sizes=[3, 6, 2], activation="tanh").double()
    shapes = {name: tensor.shape for name, tensor in weights.items()}

    def loss(theta_P: Tensor) -> Tensor:
        parts = torch.split(theta_P, [shape.numel() for shape in shapes.values()])
        named = {n: part.view(shapes[n]) for n, part in zip(shapes, parts, strict=True)}
        return F.cross_entropy(functional_call(model, named, (x,)), y)

    theta_P = torch.cat([tensor.double().flatten() for tensor in weights.values()])
    found: NDArray[np.float64] = hessian(loss)(theta_P).numpy()
    return found


def shown(path: Path) -> dict[str, Any]:
    """The JSON of a run file, whose report can be printed, too."""
    report = call("show", path)
    assert report.code == ExitCode.DONE, report.err
    assert "step_40" in report.out
    ended = call("show", "--json", path)
    assert ended.code == ExitCode.DONE, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def check_values(found: dict[str, Any], H_PP: NDArray[np.float64]) -> None:
    """Hold what a run found against the Hessian."""
    # Products are of float32: their noise is 1e-6 of |H|, which is 1.4, and all sums have 38 terms.
    noise = 38 * 1.4e-6
    blocks = {name: H_PP[rows, rows] for name, rows in LAYERS.items()}

    def is_eigenvalue(values: Any, errors: Any, block: NDArray[np.float64]) -> bool:
        apart = np.abs(np.asarray(values)[:, None] - np.linalg.eigvalsh(block)).min(axis=1)
        return bool((apart <= np.asarray(errors) + noise).all())

    def is_near(value: float, stderr: float, truth: float) -> bool:
        # Ten standard errors, of which some were estimated from a few probes.
        return abs(value - truth) <= 10 * stderr + noise

    match found["kind"]:
        case "spectrum":
            assert is_eigenvalue(found["eigenvalues"], found["eigenvalue_errors"], H_PP)
        case "spectrum-layers":
            assert [layer["layer"] for layer in found["layers"]] == list(LAYERS)
            for layer in found["layers"]:
                block = blocks[layer["layer"]]
                assert is_eigenvalue(layer["eigenvalues"], layer["eigenvalue_errors"], block)
        case "trace":
            assert is_near(found["trace"], found["stderr"], np.trace(H_PP))
            if found["layers"]:
                parts = zip(
                    found["layers"], found["layer_trace"], found["layer_stderr"], strict=True
                )
                assert all(is_near(v, s, np.trace(blocks[name])) for name, v, s in parts)
        case "density":
            # As version 0.1.0 spent them, or with all of the matrix and a product beside it.
            assert found["hvps"] in (3 * 8, 2 * 3 * 6, 38 + 1)
        case "diag":
            means = zip(
                found["layers"], found["layer_mean"], found["layer_mean_stderr"], strict=True
            )
            assert all(is_near(v, s, np.diag(blocks[name]).mean()) for name, v, s in means)
        case "bench":
            ways = {trial["way"] for trial in found["trials"]}
            assert {"retained-graph", "reverse-over-reverse"} <= ways
        case "track":
            first, last = found["checkpoints"]
            assert first["loss"] > last["loss"] > 0
            assert is_eigenvalue(last["eigenvalues"], last["eigenvalue_errors"], H_PP)
        case other:
            pytest.fail(f"no values of kind {other}")


def answer(found: dict[str, Any]) -> Any:
    """What the random numbers of a run decide, as far as anything of its answer does."""
    match found["kind"]:
        case "density":
            return found["estimates"][0]["nodes"]
        case kind:
            return found["trace" if kind == "trace" else "eigenvalues"]


@pytest.mark.parametrize("name", NAMES)
def test_its_run_files_are_shown(name: str, here: Path, H_PP: NDArray[np.float64]) -> None:
    path = here / f"{name}.h5"
    path.write_bytes(gzip.decompress((FOLDER / f"{name}.h5.gz").read_bytes()))
    found = shown(path)
    assert found["kind"] in KINDS
    assert found["curvtool_version"] == "0.1.0"
    check_values(found, H_PP)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("spectrum")])
def test_only_its_whole_matrices_pass_for_complete(name: str, here: Path) -> None:
    path = here / f"{name}.h5"
    path.write_bytes(gzip.decompress((FOLDER / f"{name}.h5.gz").read_bytes()))
    found = shown(path)
    lists = found.get("layers", [found])
    proofs = [each["completeness"] for each in lists]
    dense = all(each["method"] == "dense" for each in lists)
    assert [proof["complete"] for proof in proofs] == [dense] * len(proofs)
    for each in lists:
        counted = each["met_tolerance"] + each["stopped_at_floor"]
        assert counted == len(each["eigenvalues"]) or each["outcome"] == "max_hvps"
        if each["accuracy"] == "values":
            errors, values = np.array(each["eigenvalue_errors"]), np.array(each["eigenvalues"])
            above = errors > each["tol"] * np.abs(values)
            assert not above[np.array(each["converged"])].any()


def test_every_kind_is_among_them(here: Path) -> None:
    assert {name.split("_")[0] for name in NAMES} == KINDS - {"spectrum-layers"}
    assert "spectrum_layers" in NAMES


@pytest.mark.parametrize("kind", HALF_DONE)
def test_its_states_are_continued_or_refused_by_name(
    kind: str, here: Path, H_PP: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = here / "run.h5", here / "run.h5.state"
    shutil.copytree(FOLDER / f"{kind}.state", state)
    saved = tree(state)
    asked = [kind, PROBLEM, *HALF_DONE[kind].split(), "-o", str(path)]
    if REFUSED_WITH is not None:
        refused = call(*asked)
        assert refused.code == ExitCode.UNUSABLE_INPUT, refused.err
        assert REFUSED_WITH in refused.sentence
        assert "--force" in refused.sentence
        assert tree(state) == saved | {"lock": (state / "lock").read_bytes()}
        asked.append("--force")
    with monkeypatch.context() as changes:
        if REFUSED_WITH is None:  # nor is it thrown away without a word
            changes.setattr(StateFolder, "begin", lambda *_: pytest.fail("begun afresh"))
        ended = call(*asked)
    assert ended.code == ExitCode.DONE, ended.err
    assert not state.exists()
    continued = shown(path)
    check_values(continued, H_PP)
    # With other random numbers than the state's, either its first record would not have served, or
    # what they were drawn for would have been computed of both.
    assert "saved state 0 records" not in ended.err
    assert call(*asked, "-o", here / "fresh.h5", "--force").code == ExitCode.DONE
    fresh = shown(here / "fresh.h5")
    assert continued["hvps"] == fresh["hvps"]
    # Where this machine rounds otherwise than the one that was interrupted, by some float32 eps.
    np.testing.assert_allclose(answer(continued), answer(fresh), atol=1e-4)
