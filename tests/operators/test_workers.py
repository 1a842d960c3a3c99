"""Batches shared out among threads: the same sums every time, and nothing of it left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.planning import sharing
from curvtool.operators.planning.planner import plan_products
from curvtool.operators.planning.sharing import Sharing, try_sharing
from curvtool.operators.planning.trials import FirstBatch, Trial
from curvtool.operators.ways.registry import way_named
from curvtool.operators.workers import Workers
from curvtool.problem.objective import Objective
from tests.objectives import CASES, CPU, batches, builtin, labels, normal, seeded
from tests.operators.traps import Checkpointed

EPS = torch.finfo(torch.float64).eps
ROOM = float("inf")
LONG = 1e6  # seconds: a solve that pays for every trial


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def shared(objective: Objective, count: int = 2) -> HessianOperator:
    operator = HessianOperator(objective)
    operator.workers = Workers(count, objective.dtype)
    return operator


@pytest.mark.parametrize("count", [2, 3, 5, 50])
def test_sums_are_those_of_one_thread_and_round_alike_every_time(count: int) -> None:
    objective = CASES["tanh"].objective(batch_size=3)
    v_P = normal(objective.size)
    operator = shared(objective, count)
    first = operator.matvec(v_P)
    assert all(torch.equal(first, operator.matvec(v_P)) for _ in range(5))
    plain = HessianOperator(objective).matvec(v_P)
    # The batches' parts, of which there are less than 20, are added up in another order.
    assert float((first - plain).norm()) <= 20 * EPS * float(plain.norm())


def test_torch_has_its_threads_back_and_each_worker_its_part(two_threads: None) -> None:
    seen: dict[str, int] = {}

    def term(index: int) -> list[Tensor]:
        seen[threading.current_thread().name] = torch.get_num_threads()
        return [torch.ones(2)]

    total = Workers(2, torch.float64).summed([0, 1, 2, 3], term)
    assert torch.equal(total[0], torch.full((2,), 4.0))
    assert set(seen.values()) == {1}
    assert torch.get_num_threads() == 2


def test_a_failing_batch_is_heard_when_the_others_have_ended(two_threads: None) -> None:
    ended: list[int] = []

    def term(index: int) -> list[Tensor]:
        if index == 0:
            raise ArithmeticError("batch 0")
        ended.append(index)
        return [torch.ones(2)]

    with pytest.raises(ArithmeticError, match="batch 0"):
        Workers(2, torch.float64).summed([0, 1, 2, 3], term)
    assert sorted(ended) == [1, 3]  # the other worker's share
    assert torch.get_num_threads() == 2
    assert torch.get_default_dtype() is torch.float32
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]


def test_when_memory_runs_out_workers_go_before_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES["tanh"].objective()
    operator = shared(objective)
    kept, v_P = operator.kept, normal(objective.size)
    expected = HessianOperator(objective).matvec(v_P)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Workers, "summed", full)
    assert torch.equal(operator.matvec(v_P), expected)
    assert operator.kept == kept
    assert operator.workers is None
    assert operator.adjustments == ["Memory ran out: batches are multiplied one after the other."]


def trial_of(objective: Objective, way: str = "retained-graph") -> Trial:
    return FirstBatch(objective, seed=0).tried(way_named(way))


def faked(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int, int], float | None]) -> None:
    """Let so many workers on batches halved so often take these seconds."""
    monkeypatch.setattr(sharing, "_seconds_at_once", lambda _o, _t, w, h: seconds(w, h))


@pytest.mark.parametrize(
    ("whole", "halved", "found"),
    [
        (1.0, 0.5, (0, 0.5)),  # two batches in the time of one; so are halves, and whole is first
        (1.0, 0.45, (1, 0.45)),
        (1.2, 0.7, (0, 0.6)),
        (1.9, 0.95, None),  # as fast as one after the other, but for noise
        (2.5, 1.5, None),
    ],
)
def test_the_fastest_is_taken_where_it_is_clearly_faster(
    whole: float,
    halved: float,
    found: tuple[int, float] | None,
    two_threads: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = CASES["tanh"].objective(batch_size=12)
    trial = trial_of(objective)
    trial.times = [1.0]
    faked(monkeypatch, lambda _, halvings: halved if halvings else whole)
    best = try_sharing(objective, trial, solve=LONG, batches=4, room=ROOM)
    assert (best and (best.halvings, best.factor)) == found


def test_one_batch_is_halved_until_all_threads_have_one(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = CASES["tanh"].objective(batch_size=1000)
    assert objective.num_batches == 1
    trial = trial_of(objective)
    trial.times = [1.0]
    asked: list[tuple[int, int]] = []

    def seconds(workers: int, halvings: int) -> float:
        asked.append((workers, halvings))
        return 1.0

    faked(monkeypatch, seconds)
    try_sharing(objective, trial, solve=LONG, batches=1, room=ROOM)
    assert asked == [(2, 1), (2, 2)]


@pytest.mark.parametrize(("solve", "room"), [(0.0, ROOM), (LONG, 0.0)])
def test_nothing_is_tried_where_it_cannot_pay_or_fit(
    solve: float, room: float, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = CASES["tanh"].objective(batch_size=12)
    faked(monkeypatch, lambda *_: pytest.fail("tried"))
    assert try_sharing(objective, trial_of(objective), solve=solve, batches=4, room=room) is None


@pytest.mark.parametrize(("efficiency", "tries"), [(1.0, False), (0.9, True), (0.7, True)])
def test_what_may_be_saved_pays_for_a_trial_that_a_short_solve_does_not(
    efficiency: float, tries: bool, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = CASES["tanh"].objective(batch_size=1000)
    trial = trial_of(objective)
    trial.times = [1.0]
    asked: list[int] = []

    def seconds(_: int, halvings: int) -> float:
        asked.append(halvings)
        return 0.2

    faked(monkeypatch, seconds)
    # A trial of quarters is reckoned with (0.7 + 3) 2 / 4 = 1.85 s: more than 2 % of 80 s, less
    # than a quarter of the tenth of them that may be saved.
    shared = try_sharing(objective, trial, solve=80.0, batches=1, room=ROOM, efficiency=efficiency)
    assert (shared is not None) is tries
    assert bool(asked) is tries


def test_a_model_that_runs_again_on_the_way_back_is_left_to_one_thread(two_threads: None) -> None:
    build = lambda: nn.Sequential(nn.Linear(4, 6), Checkpointed(reentrant=False))  # noqa: E731
    objective = Objective(
        seeded(build).double(),
        builtin("cross_entropy"),
        batches((normal(16, 4), labels(3, 16)), 8),
        device=CPU,
        dtype=torch.float64,
    )
    objective.evaluate()
    trial = trial_of(objective)
    trial.times = [1e3]  # so that anything at once would be faster
    assert try_sharing(objective, trial, solve=LONG, batches=2, room=ROOM) is None
    plain = CASES["tanh"].objective()
    other = trial_of(plain)
    other.times = [1e3]
    assert try_sharing(plain, other, solve=LONG, batches=2, room=ROOM) is not None


@pytest.mark.parametrize("halvings", [0, 1])
def test_a_plan_with_workers_multiplies_by_the_same_matrix(
    halvings: int, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Sharing(workers=2, halvings=halvings, factor=0.5, bytes=100)
    monkeypatch.setattr("curvtool.operators.planning.planner.try_sharing", lambda *_, **__: found)
    objective = CASES["tanh"].objective()
    expected, before = HessianOperator(objective).matvec, objective.num_batches
    v_P = normal(objective.size)
    H_v = expected(v_P)
    planned = plan_products(objective, products=50)
    assert planned.operator.workers is not None
    assert objective.num_batches > before if halvings else objective.num_batches == before
    assert "at once, 2.00 times as fast as one after the other" in planned.reason
    assert ("each halved once" in planned.reason) == bool(halvings)
    # Sums over examples in another order.
    error = (planned.operator.matvec(v_P) - H_v).norm()
    assert float(error) <= 200 * EPS * float(H_v.norm())
