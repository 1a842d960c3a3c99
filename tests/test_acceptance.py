"""What the tool promises of a whole solve: a trained network against its dense float64 Hessian."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curvtool.config import ComputeConfig, DType, Method, ProblemConfig, SpectrumConfig, Which
from curvtool.pipeline import load, run_spectrum
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.save import save_checkpoint
from curvtool.results import WHOLE_MATRIX, FloatArray, Outcome, SpectrumRun

EXAMPLES = 256
SIZES = [64, 20, 10]
DATA = Path(__file__).parent.parent / "checkpoints" / "digits.npz"


@dataclass(frozen=True, eq=False)
class Trained:
    """A checkpoint with its exact spectrum, by torch.func over a plain function."""

    path: Path
    eigenvalues: FloatArray

    def truth(self, k: int) -> FloatArray:
        order = np.argsort(-np.abs(self.eigenvalues))
        return self.eigenvalues[order[:k]]

    def solve(
        self, *, dtype: DType = "float32", seed: int = 0, method: Method = "lanczos", **more: object
    ) -> SpectrumRun:
        config = SpectrumConfig(
            problem=ProblemConfig(checkpoint=self.path),
            compute=ComputeConfig(dtype=dtype, seed=seed, device="cpu"),
            method=method,
        )
        config = replace(config, **more)  # type: ignore[arg-type]
        return run_spectrum(config, load(config, working_directory=self.path.parent))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("acceptance")
    with np.load(DATA) as arrays:
        x, y = arrays["x_train"][:EXAMPLES], arrays["y_train"][:EXAMPLES]
    np.savez(folder / "digits.npz", x=x, y=y)
    inputs = torch.from_numpy(x).flatten(1).double()
    labels = torch.from_numpy(y)
    torch.manual_seed(0)
    model = BUILTIN_MODELS["mlp"](sizes=SIZES, activation="tanh").double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss_value = nn.functional.cross_entropy(model(inputs), labels)
        torch.autograd.backward(loss_value)
        optimizer.step()
    model = model.float()
    problem = {
        "model": {"build": "mlp", "kwargs": {"sizes": SIZES, "activation": "tanh"}},
        "data": {"source": "npz:digits.npz", "batch_size": 64},
        "loss": {"name": "cross_entropy"},
    }
    save_checkpoint(folder / "mlp.pt", model, problem=problem)

    shapes = [(p.shape, p.numel()) for p in model.parameters()]
    theta = torch.cat([p.detach().double().flatten() for p in model.parameters()])

    def loss(flat: Tensor) -> Tensor:
        w1, b1, w2, b2 = (
            piece.view(shape)
            for piece, (shape, _) in zip(
                torch.split(flat, [n for _, n in shapes]), shapes, strict=True
            )
        )
        logits = torch.tanh(inputs @ w1.T + b1) @ w2.T + b2
        return nn.functional.nll_loss(logits.log_softmax(1), labels)

    H = torch.func.jacrev(torch.func.grad(loss), chunk_size=128)(theta)
    assert theta.numel() <= 2000
    return Trained(folder / "mlp.pt", np.linalg.eigvalsh(((H + H.T) / 2).numpy()))


def test_float64_agrees_to_1e_9_of_the_largest(trained: Trained) -> None:
    run = trained.solve(dtype="float64", tol=1e-10)
    truth = trained.truth(20)
    assert run.pairs.outcome is Outcome.CONVERGED
    assert run.pairs.method == "lanczos"
    assert np.abs(run.pairs.eigenvalues - truth).max() <= 1e-9 * abs(truth[0])


def test_float32_agrees_to_1e_5_of_the_largest(trained: Trained) -> None:
    run = trained.solve(dtype="float32", tol=1e-5)
    truth = trained.truth(20)
    assert run.pairs.outcome is Outcome.CONVERGED
    assert np.abs(run.pairs.eigenvalues - truth).max() <= 1e-5 * abs(truth[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-5])
def test_the_printed_bound_holds_the_truth_for_all_pairs(
    trained: Trained, dtype: DType, tol: float
) -> None:
    truth = trained.truth(20)
    for seed in range(20):
        pairs = trained.solve(dtype=dtype, tol=tol, seed=seed).pairs
        assert pairs.outcome is Outcome.CONVERGED
        assert (np.abs(pairs.eigenvalues - truth) <= pairs.eigenvalue_errors).all()


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_the_methods_agree(trained: Trained, which: Which) -> None:
    runs = [
        trained.solve(dtype="float64", tol=1e-6, which=which, top_k=4, method=method)
        for method in ("lanczos", "dense", "eigsh")
    ]
    first = runs[0].pairs
    for run in runs:
        pairs = run.pairs
        assert pairs.outcome is Outcome.CONVERGED
        allowed = pairs.eigenvalue_errors + first.eigenvalue_errors
        assert (np.abs(pairs.eigenvalues - first.eigenvalues) <= allowed).all()


def test_auto_goes_dense_below_the_budget_and_all_gives_every_eigenvalue(trained: Trained) -> None:
    pairs = trained.solve(dtype="float64", method="auto", all_pairs=True).pairs
    assert pairs.method == "dense"
    assert pairs.completeness is WHOLE_MATRIX
    found, truth = np.sort(pairs.eigenvalues), np.sort(trained.eigenvalues)
    errors = pairs.eigenvalue_errors[np.argsort(pairs.eigenvalues, kind="stable")]
    assert (np.abs(found - truth) <= errors).all()
    assert trained.solve(method="auto", max_hvps=200).pairs.method == "lanczos"
    assert trained.solve(method="auto", top_k=3, certify="full").pairs.method == "lanczos"
    assert trained.solve(method="auto", top_k=3, basis=40).pairs.method == "lanczos"
