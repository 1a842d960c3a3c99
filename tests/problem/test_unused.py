"""Parameters out of the loss's reach: left out of P, with the same eigenvalues but for zeros."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.operators.hessian import HessianOperator
from curvtool.problem.copying import copied
from curvtool.problem.objective import Objective
from curvtool.problem.unused import skip_unused
from tests.cli.calls import call
from tests.objectives import CPU, N, batches, builtin, labels, normal, seeded


class Spare(nn.Module):
    """A head that no loss sees, and a part that some examples alone reach."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.spare = nn.Linear(4, 5)
        self.late = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.body(x)))
        return out * self.late if bool((x[:, 0] > 1).any()) else out


def objective(
    weight_decay: float = 0.0,
    patterns: tuple[str, ...] = (),
    build: Callable[[], nn.Module] = Spare,
) -> Objective:
    x = normal(N, 3)
    x[:, 0] = x[:, 0].clamp(max=0.9)
    x[-1, 0] = 2.0  # in the last batch
    return Objective(
        seeded(build).double(),
        builtin("cross_entropy"),
        batches((x, labels(2, N)), 7),
        device=CPU,
        dtype=torch.float64,
        weight_decay=weight_decay,
        patterns=patterns,
    )


def eigenvalues(of: Objective) -> Tensor:
    of.evaluate()
    operator = HessianOperator(of, way="double-vjp")
    rows = [operator.matvec(e) for e in torch.eye(of.size, dtype=of.dtype)]
    H = torch.stack(rows)
    found: Tensor = torch.linalg.eigvalsh((H + H.T) / 2)
    return found


@pytest.mark.parametrize("weight_decay", [0.0, 0.25])
def test_eigenvalues_stay_but_for_those_of_what_is_left_out(weight_decay: float) -> None:
    whole, part = objective(weight_decay), objective(weight_decay)
    skip_unused(part)
    assert part.layout.names == ("late", "body.weight", "body.bias", "head.weight", "head.bias")
    assert whole.size - part.size == 25
    full, kept = eigenvalues(whole), eigenvalues(part)
    expected = torch.cat([kept, torch.full((25,), weight_decay, dtype=torch.float64)]).sort().values
    # Rows of P numbers of the size of the largest eigenvalue, each rounded.
    eps = torch.finfo(torch.float64).eps
    assert float((full - expected).abs().max()) <= 10 * whole.size * eps * float(full.abs().max())
    assert part.evaluate().loss == pytest.approx(
        whole.evaluate().loss - weight_decay / 2 * _squares(whole, "spare"), rel=1e-12
    )


def _squares(of: Objective, prefix: str) -> float:
    named = of.module.named_parameters()
    return sum(
        float(p.detach().double().square().sum()) for name, p in named if name.startswith(prefix)
    )


def test_what_is_left_out_is_said_and_stays_out_of_copies() -> None:
    part = objective()
    skip_unused(part)
    part.evaluate()
    assert part.notes == [
        "--skip-unused leaves out 25 of 53 parameters, which the loss never reaches: spare.weight, "
        "spare.bias."
    ]
    assert part.sample(5, dtype=torch.float32).layout.names == part.layout.names
    assert not any(p.requires_grad for p in copied(part.module).get_submodule("spare").parameters())


class WithState(Spare):
    """Makes a matrix of no dtype in particular, as recurrent models make their first state."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x @ torch.eye(3))


def test_in_float64_the_model_runs_as_it_does_in_the_objective() -> None:
    found = objective(build=WithState)
    skip_unused(found)
    assert found.size == 53 - 25
    found.evaluate()


def test_nothing_unused_changes_nothing() -> None:
    part = objective(patterns=("body.*",))
    skip_unused(part)
    assert part.size == 16
    assert part.notes == ["H is a block: --params keeps 2 of 7 tensors."]


def test_a_loss_that_reaches_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="leave none"):
        skip_unused(objective(patterns=("spare.*",)))


@pytest.fixture
def problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("m.py").write_text(
        "from tests.problem.test_unused import Spare\ndef build(): return Spare()\n"
    )
    torch.save(seeded(Spare).float().state_dict(), "net.pt")
    draw = np.random.default_rng(0)
    np.savez("d.npz", x=draw.normal(size=(20, 3)).astype("f4"), y=draw.integers(0, 2, 20))
    data = ["--data", "npz:d.npz", "--data-kwargs", "inputs=x", "--data-kwargs", "targets=y"]
    return ["net.pt", "--model", "m.py:build", *data, "--loss", "cross_entropy", "-q"]


def test_the_run_file_knows_and_another_request_is_refused(problem: list[str]) -> None:
    import h5py

    def stored(name: str) -> dict[str, Any]:
        import json

        with h5py.File("net.spectrum.h5") as file:
            found: dict[str, Any] = json.loads(file.attrs[name])
        return found

    assert call("spectrum", *problem, "-k", "3").code == 0
    whole = stored("config")
    assert not whole["problem"]["skip_unused"]
    assert len(stored("environment")["tensors_sha256"]) == 64
    again = call("spectrum", *problem, "-k", "3", "--skip-unused")
    assert again.code == 4
    assert "now given" in again.err
    done = call("spectrum", *problem, "-k", "3", "--skip-unused", "--force")
    assert done.code == 0
    assert "28 parameters" in done.out
    assert "--skip-unused leaves out 25 of 53 parameters" in " ".join(done.out.split())
    assert stored("config")["problem"]["skip_unused"]
