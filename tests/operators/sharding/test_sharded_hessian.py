"""Products of models that no rank holds, against those of models that one process holds.

Letters: P parameters, p of a rank's part, W ranks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curvtool.algorithms.lanczos import lanczos
from curvtool.algorithms.settings import EigenSettings
from curvtool.algorithms.space import space_of
from curvtool.distributed.group import Alone, Group
from curvtool.distributed.shares import Shares
from curvtool.errors import InputError, PreflightError
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.sharding.hessian import ShardedHessian
from curvtool.operators.sharding.placing import shard
from curvtool.problem.batch import Batch
from curvtool.problem.cures import cured
from curvtool.problem.models import gpt, mlp
from curvtool.problem.objective import Objective
from tests.conformance import LAWS
from tests.objectives import (
    CPU,
    Case,
    batches,
    builtin,
    cross_entropy,
    labels,
    normal,
    seeded,
    truth,
)
from tests.operators.sharding.live import LiveBytes
from tests.operators.sharding.problems import PROBLEMS
from tests.operators.sharding.ranks import run_in_ranks

SIZES = (2, 4)
# What the issue asks for; products are right to some 10 roundings, 2e-15, of their own size.
TOLERANCE = 1e-12
# Blocks of H, by the names of parameters.
BLOCKS = {"tanh": ("*weight",), "gpt": ("blocks.*", "head*"), "own-ways": ("rows*", "first*")}
RUNS = [(name, ()) for name in PROBLEMS] + list(BLOCKS.items())
# Four ranks take their time on two cores.
OF_FOUR = {"tanh", "cnn", "gpt", "tied", "frozen", "own-ways", "masked-weighted"}
CASES_OF = {2: RUNS, 4: [run for run in RUNS if run[0] in OF_FOUR and run[1] != BLOCKS["gpt"]]}
CASES = [(name, patterns, size) for size in SIZES for name, patterns in CASES_OF[size]]
# Of 23 examples: the last batch has fewer than there are ranks. Of the masked ones whole batches,
# and of others a rank's share, have no weight.
BATCH = {"masked-weighted": 7}
USUAL_BATCH = 20


# Which model the algorithms are held to, and how many pairs.
SOLVED, PAIRS = "tanh", 3


def cut(case: Case) -> list[Batch]:
    name = next((name for name, other in PROBLEMS.items() if other is case), "")
    return batches(case.values, BATCH.get(name, USUAL_BATCH))


def sharded(case: Case, group: Group, patterns: tuple[str, ...] = ()) -> ShardedHessian:
    module = cured(seeded(case.build).double().eval())
    made = shard(
        module,
        group,
        device=CPU,
        dtype=torch.float64,
        patterns=patterns,
    )
    return ShardedHessian(made, case.loss, cut(case), weight_decay=case.weight_decay)


def whole(case: Case, patterns: tuple[str, ...]) -> Objective:
    return Objective(
        seeded(case.build).double(),
        case.loss,
        cut(case),
        device=CPU,
        dtype=torch.float64,
        patterns=patterns,
        weight_decay=case.weight_decay,
    )


def vector(size: int) -> Tensor:
    return normal(size, seed=50)


def product_of_ranks(group: Group) -> dict[str, Any]:
    """What the ranks find, put together."""
    found: dict[str, Any] = {}
    for name, patterns in CASES_OF[group.size]:
        H = sharded(PROBLEMS[name], group, patterns)
        shares = Shares(H.size, group.size)
        v_p = vector(H.size)[shares.part(group.rank)].clone()
        at = H.evaluate()
        found[f"{name} {patterns}"] = {
            "loss": at.loss,
            "gradient": group.all_gather(at.gradient_p, shares),
            "product": group.all_gather(H.matvec(v_p), shares),
            "held": [H.sharded.store.length, H.sharded.constants.length],
        }
    H = sharded(PROBLEMS["masked-weighted"], group)
    v_p = vector(H.size)[Shares(H.size, group.size).part(group.rank)].clone()
    found["terms"] = [H.term(i, v_p) for i in range(H.num_terms)]
    found["term shares"] = H.term_shares
    found["sum"] = H.matvec(v_p)
    H = sharded(PROBLEMS[SOLVED], group)
    settings = EigenSettings(k=PAIRS, tol=1e-10, basis=30, max_hvps=300, noise=1e-15, vectors=True)
    pairs = lanczos(H, settings)
    assert pairs.eigenvectors is not None
    found["eigenvalues"] = pairs.eigenvalues
    found["eigenvectors"] = space_of(H).gathered(pairs.eigenvectors)
    found["live"] = {depth: live_bytes(group, depth) for depth in DEPTHS}
    return found


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    return run_in_ranks(product_of_ranks, SIZES, Path(tmp_path_factory.mktemp("ranks")))


def _off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("name", "patterns", "size"), CASES)
def test_the_product_is_that_of_one_process(
    by_ranks: dict[int, list[dict[str, Any]]],
    name: str,
    patterns: tuple[str, ...],
    size: int,
) -> None:
    objective = whole(PROBLEMS[name], patterns)
    H = HessianOperator(objective, way="reverse-over-reverse")
    expected_P = H.matvec(vector(H.size))
    at = objective.evaluate()
    for rank in by_ranks[size]:
        found = rank[f"{name} {patterns}"]
        assert abs(found["loss"] - at.loss) <= TOLERANCE * abs(at.loss)
        assert _off(found["gradient"], at.gradient_P) <= TOLERANCE
        assert _off(found["product"], expected_P) <= TOLERANCE


@pytest.mark.parametrize("size", SIZES)
def test_an_eigensolver_works_on_shares(
    by_ranks: dict[int, list[dict[str, Any]]], size: int
) -> None:
    H = HessianOperator(whole(PROBLEMS[SOLVED], ()), way="reverse-over-reverse")
    for rank in by_ranks[size]:
        for value, vector_P in zip(rank["eigenvalues"], rank["eigenvectors"], strict=True):
            residual = H.matvec(vector_P.double()) - float(value) * vector_P.double()
            # An eigenvalue to 1e-10 has a residual of sqrt(1e-10 gap) at most; the gaps are below
            # the eigenvalue.
            assert float(residual.norm()) <= 1e-5 * abs(float(rank["eigenvalues"][0]))
    largest = [float(rank["eigenvalues"][0]) for rank in by_ranks[size]]
    assert len(set(largest)) == 1


@pytest.mark.parametrize("size", SIZES)
def test_terms_add_up_to_the_product(by_ranks: dict[int, list[dict[str, Any]]], size: int) -> None:
    for rank in by_ranks[size]:
        assert len(rank["terms"]) == 3  # of 4 batches one is masked as a whole
        assert abs(sum(rank["term shares"]) - 1) <= TOLERANCE
        assert _off(sum(rank["terms"]), rank["sum"]) <= TOLERANCE


@pytest.mark.parametrize(("name", "patterns", "size"), CASES)
def test_every_rank_holds_its_share_of_parameters(
    by_ranks: dict[int, list[dict[str, Any]]],
    name: str,
    patterns: tuple[str, ...],
    size: int,
) -> None:
    numbers = [sum(rank[f"{name} {patterns}"]["held"]) for rank in by_ranks[size]]
    module = PROBLEMS[name].build()
    assert sum(numbers) == sum(p.numel() for p in module.parameters())
    assert max(numbers) - min(numbers) <= 2  # one of the differentiated ones, one of the others


DEPTHS = (4, 12)
WIDTH = 48
LAYER_BYTES = 8 * WIDTH * WIDTH
# W, V, a derivative for each, and what autograd makes of them on its way.
OF_ONE_CALL = 6


def live_bytes(group: Group, depth: int) -> tuple[int, int, int]:
    """Most bytes alive that a product of a deep network makes, of this rank's share, and moved."""
    case = _deep(depth)
    H = sharded(case, group)
    v_p = normal(H.size, seed=3)[Shares(H.size, group.size).part(group.rank)].clone()
    before = group.traffic
    with LiveBytes() as live:
        H.matvec(v_p)
    return live.peak, H.sharded.store.part_p.nbytes, group.traffic - before


def _deep(depth: int) -> Case:
    def build() -> nn.Module:
        return mlp(sizes=[WIDTH] * depth, activation="tanh")

    values = (normal(4, WIDTH, seed=5), labels(WIDTH, 4, seed=6))
    return Case(build, builtin("cross_entropy"), values, cross_entropy)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_no_rank_has_more_at_once_than_its_share_and_one_layer(
    by_ranks: dict[int, list[dict[str, Any]]], depth: int, size: int
) -> None:
    # A rank computes at most 2 of the 4 examples: value and derivative of each activation, kept by
    # the layer, by tanh and on the way back.
    activations = 8 * depth * 2 * WIDTH * 8
    for rank in by_ranks[size]:
        peak, part, _ = rank["live"][depth]
        # Of the three shares, theta and v were there before; H v is made.
        assert peak <= part + OF_ONE_CALL * LAYER_BYTES + activations
        # The law would say nothing if a rank could hold all parameters within it.
        if depth == max(DEPTHS) and size == max(SIZES):
            assert peak < (depth - 1) * LAYER_BYTES


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_product_moves_five_vectors_a_batch(
    by_ranks: dict[int, list[dict[str, Any]]], depth: int, size: int
) -> None:
    # Theta and v forth and back, and H v; the first layer has no inputs to go back to.
    layer = LAYER_BYTES + 8 * WIDTH
    vectors = 5 * (depth - 1) * layer - 2 * LAYER_BYTES - 2 * (depth - 1) * 8 * WIDTH
    for rank in by_ranks[size]:
        moved = rank["live"][depth][2]
        # Each of some messages is counted to the byte below.
        assert vectors * (size - 1) / size - 1000 <= moved <= vectors * (size - 1) / size


@pytest.mark.parametrize("name", ["tanh", "cnn", "tied"])
def test_alone_it_is_an_operator(name: str, subtests: pytest.Subtests) -> None:
    operator = sharded(PROBLEMS[name], Alone())
    for law in LAWS:
        with subtests.test(law.__name__):
            law(operator, truth(name))


def test_a_loss_of_whole_batches_is_refused() -> None:
    case = PROBLEMS["tanh"]
    made = shard(seeded(case.build).double(), Alone(), device=CPU, dtype=torch.float64)
    with pytest.raises(InputError, match="mean over examples"):
        ShardedHessian(made, builtin("contrastive"), cut(case))


def test_an_input_that_is_written_over_is_refused() -> None:
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            found: Tensor = self.second(h)
            h.zero_()
            return found

    case = Case(Overwriting, builtin("cross_entropy"), PROBLEMS["tanh"].values, cross_entropy)
    H = sharded(case, Alone())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        H.evaluate()


def test_a_parameter_that_is_changed_on_the_way_is_refused() -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.layer.weight.mul_(0.9)
            found: Tensor = self.layer(x)
            return found

    case = Case(Changing, builtin("cross_entropy"), PROBLEMS["tanh"].values, cross_entropy)
    with pytest.raises(InputError, match="in place"):
        sharded(case, Alone())


def test_it_is_the_gpt_that_is_tied_which_counts_once() -> None:
    H = sharded(PROBLEMS["tied"], Alone())
    module = gpt(vocab_size=6, context=4, width=4, layers=1, heads=2, mlp_ratio=2, tied=True)
    assert H.size == sum(p.numel() for p in module.parameters())


def test_code_without_forward_mode_is_told() -> None:
    class Distances(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = nn.Parameter(torch.zeros(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return -torch.cdist(x, self.centres)

    case = Case(Distances, builtin("cross_entropy"), PROBLEMS["tanh"].values, cross_entropy)
    H = sharded(case, Alone())
    with pytest.raises(PreflightError, match="forward mode"):
        H.matvec(vector(H.size))
