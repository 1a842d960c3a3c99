"""Plans: arithmetic that respects the memory, decisions that pay, products that stay right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.planning import blocks, comparison, planner, threads
from curvtool.operators.planning.blocks import choose_block
from curvtool.operators.planning.comparison import compare_ways
from curvtool.operators.planning.costs import BatchCost, Costs
from curvtool.operators.planning.planner import plan_products
from curvtool.operators.planning.trials import FirstBatch, Trial, apart
from curvtool.operators.ways.compile_probe import CompileFailure, CompileReport
from curvtool.operators.ways.registry import WAYS, way_named
from curvtool.operators.ways.reverse import graph_bytes
from curvtool.results import Forecast, Verdict, WayTrial
from tests.objectives import CASES, normal

EPS = torch.finfo(torch.float64).eps

sizes = st.integers(0, 10**12)
times = st.floats(0, 1e3)


@st.composite
def costs(draw: Callable[..., Any]) -> Costs:
    keeps = draw(st.booleans())
    chosen = BatchCost(
        seconds=draw(times),
        setup=draw(times),
        bytes_kept=draw(sizes) if keeps else 0,
        bytes_peak=draw(sizes),
        keeps=keeps,
        traced=draw(st.booleans()),
    )
    rest = BatchCost(seconds=draw(times), bytes_peak=draw(sizes))
    return Costs(
        chosen=chosen,
        rest=draw(st.sampled_from([None, rest])),
        products=draw(st.integers(1, 10**6)),
        batches=draw(st.floats(0.5, 1e4)),
        memory=draw(st.none() | sizes),
    )


@given(costs())
def test_what_is_kept_fits_and_all_batches_are_served(cost: Costs) -> None:
    assert 0 <= cost.kept <= cost.batches
    if cost.memory is not None:
        assert cost.kept * cost.chosen.bytes_kept <= cost.memory + 1e-9 * cost.memory
    forecast = cost.forecast(reserved=7)
    assert forecast.bytes >= 7 + cost.working_bytes
    if cost.memory is not None and cost.working_bytes <= cost.memory:
        assert forecast.bytes <= 8 + cost.memory * (1 + 1e-9)
    assert forecast.seconds >= cost.products * forecast.seconds_per_product
    if cost.all_kept or not cost.chosen.keeps:
        assert cost.seconds_per_product == pytest.approx(cost.batches * cost.chosen.seconds)


def test_two_batches_kept_and_two_rebuilt() -> None:
    cost = Costs(
        chosen=BatchCost(seconds=2.0, setup=1.0, bytes_kept=100, bytes_peak=30, keeps=True),
        rest=BatchCost(seconds=3.0, bytes_peak=50),
        products=10,
        batches=4.0,
        memory=299,
    )
    assert cost.room == 249
    assert cost.kept == 2
    assert cost.seconds_per_product == 2 * 2.0 + 2 * 3.0
    assert cost.setup == 1.0 + 0.7 * 2.0
    assert cost.forecast(reserved=11).bytes == 11 + 200 + 50


def test_what_a_solver_does_beside_its_products_is_added_to_each() -> None:
    forecast = Forecast(products=10, seconds_per_product=2.0, seconds=25.0, bytes=7)
    beside = Forecast(products=10, seconds_per_product=2.5, seconds=30.0, bytes=7)
    assert forecast.with_beside(0.5) == beside


@pytest.mark.parametrize("way", [name for name in WAYS if name not in {"compiled", "linearized"}])
def test_a_way_that_is_named_is_taken(way: str) -> None:
    planned = plan_products(CASES["tanh"].objective(), way=way, products=50)
    assert planned.operator.way == way
    assert planned.reason == "named by --hvp"
    assert planned.trials[0].way == way


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0, None])
def test_the_plan_keeps_within_the_memory_and_multiplies_right(share: float | None) -> None:
    case = CASES["cnn"]
    objective = case.objective(batch_size=4)
    expected = HessianOperator(case.objective()).matvec(normal(objective.size))
    each = [graph_bytes(objective, index) for index in objective.active]
    working = FirstBatch(objective, seed=0).tried(way_named("reverse-over-reverse")).bytes_peak
    memory = None if share is None else int(share * sum(each)) + (working if share else 0)
    planned = plan_products(objective, products=50, graph_memory=memory)
    found = planned.operator.matvec(normal(objective.size))
    assert float((found - expected).norm() / expected.norm()) <= 1e3 * EPS
    if memory is not None:
        assert planned.operator.bytes_kept <= memory
        assert planned.forecast.bytes <= memory or not planned.operator.kept
    assert len(planned.operator.kept) == {0.0: 0, 1.0: 6, None: 6}.get(
        share, len(planned.operator.kept)
    )
    chosen = [t for t in planned.trials if t.verdict is Verdict.CHOSEN]
    assert [t.way for t in chosen] == [planned.operator.way]


def test_a_short_solve_tries_no_compiler() -> None:
    planned = plan_products(CASES["tanh"].objective(), products=50)
    (left_out,) = [t for t in planned.trials if t.way == "compiled"]
    assert left_out.verdict is Verdict.NOT_TRIED
    assert "may save some" in left_out.detail


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (CompileFailure("the compiler ended with code 1: no g++"), Verdict.REFUSED),
        (CompileReport(compile_seconds=1e9, gain=1.5), Verdict.RIGHT),
        (CompileReport(compile_seconds=1.0, gain=0.2), Verdict.RIGHT),
    ],
)
def test_a_compiler_that_fails_or_does_not_pay_changes_nothing(
    answer: object, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(*args: Any, **kwargs: Any) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(planner, "probe_compilation", probe)
    planned = plan_products(CASES["tanh"].objective(), products=10**7)
    assert planned.operator.way == "retained-graph"
    assert [t.verdict for t in planned.trials if t.way == "compiled"] == [verdict]


def test_a_compiler_that_pays_is_taken_where_its_product_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The child has its own test; here its answer is given, and the compilation is real.
    monkeypatch.setattr(planner, "probe_compilation", lambda *_, **__: CompileReport(1.0, 2.0))
    objective = CASES["tanh"].objective()
    planned = plan_products(objective, products=10**9)
    trial = next(t for t in planned.trials if t.way == "compiled")
    assert trial.verdict in {Verdict.CHOSEN, Verdict.RIGHT}
    if trial.verdict is Verdict.CHOSEN:  # which the machine decides
        assert planned.operator.way == "compiled"
        assert planned.noise <= 1e4 * EPS


def test_a_wrong_way_is_found_out_by_a_right_one() -> None:
    batch = FirstBatch(CASES["gpt"].objective(), seed=0)
    known = batch.tried(way_named("retained-graph"))
    wrong = batch.tried_against(way_named("reverse-over-forward"), known)
    assert isinstance(wrong, WayTrial)
    assert wrong.verdict is Verdict.WRONG
    right = batch.tried_against(way_named("forward-over-reverse"), known)
    assert isinstance(right, Trial)
    assert apart(right.found, known.found) <= 1e4 * EPS


def test_all_ways_side_by_side() -> None:
    case = CASES["gpt"]
    ways = [name for name in WAYS if name not in {"compiled", "linearized"}]
    found = compare_ways(
        case.objective(batch_size=23, dtype=torch.float32),
        case.objective(batch_size=23),
        ways,
        checked="retained-graph",
        noise=1e-6,
        rounds=2,
        seed=0,
        tell=lambda _: None,
    )
    assert [t.way for t in found.trials] == ways
    verdicts = {t.way: t.verdict for t in found.trials}
    assert verdicts["reverse-over-forward"] is Verdict.WRONG
    assert verdicts["finite-difference"] is Verdict.INEXACT
    assert sorted(v.value for v in verdicts.values()) == [
        *["chosen", "inexact", "right", "right", "right", "wrong"]
    ]
    assert found.gradient_seconds > 0
    for trial in found.trials:
        assert trial.seconds is not None
        assert trial.error is not None
        assert trial.gradients == pytest.approx(trial.seconds / found.gradient_seconds)
        assert (trial.error <= 1e-3) is (trial.verdict in {Verdict.CHOSEN, Verdict.RIGHT}) or (
            trial.verdict is Verdict.INEXACT
        )


def test_a_way_that_torch_refuses_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(*args: Any, **kwargs: Any) -> object:
        raise CompileFailure("no g++")

    monkeypatch.setattr(comparison, "probe_compilation", probe)
    objective = CASES["tanh"].objective(batch_size=23)
    found = compare_ways(
        objective,
        None,
        ["retained-graph", "compiled"],
        checked="retained-graph",
        noise=1e-15,
        rounds=1,
        seed=0,
        tell=lambda _: None,
    )
    assert [t.verdict for t in found.trials] == [Verdict.CHOSEN, Verdict.REFUSED]
    assert found.trials[1].detail == "no g++"


@pytest.mark.parametrize("products", [1, 150, 10_000])
def test_the_block_is_within_its_share(products: int) -> None:
    operator = HessianOperator(CASES["tanh"].objective())
    block = choose_block(operator, products=products, memory=None)
    assert block == operator.block
    assert 1 <= block <= max(1, products // 100)


def test_blocks_need_memory_and_a_way_that_can() -> None:
    operator = HessianOperator(CASES["tanh"].objective())
    assert choose_block(operator, products=10_000, memory=0) == 1
    rebuilt = HessianOperator(CASES["tanh"].objective(), way="reverse-over-reverse")
    assert choose_block(rebuilt, products=10_000, memory=None) == 1


def test_a_block_grows_while_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = HessianOperator(CASES["tanh"].objective())
    # A pass takes a second whatever goes through it, up to 16 vectors; then ten.
    monkeypatch.setattr(blocks, "seconds", lambda *_: 1.0 if operator.block < 32 else 99)
    assert choose_block(operator, products=10_000, memory=None) == 16


@pytest.mark.parametrize(("slow", "expected"), [(5.0, 1), (1.1, 2)])
def test_a_busy_machine_computes_with_one_thread(
    slow: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = CASES["tanh"].objective()
    before = torch.get_num_threads()
    with threads.restored_threads():
        torch.set_num_threads(2)
        monkeypatch.setattr(
            threads, "seconds", lambda *_: slow if torch.get_num_threads() == 2 else 1.0
        )
        chosen = threads.choose_threads(objective)
        assert torch.get_num_threads() == expected
        assert bool(chosen.sentence) is (expected == 1)
        # One thread takes 1 s, two take 1.1 s.
        assert chosen.efficiency == pytest.approx(1.0 if expected == 1 else 1 / 2.2)
    assert torch.get_num_threads() == before
