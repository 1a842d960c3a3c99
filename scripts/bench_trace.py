"""What the trace costs: a probe for every batch beside one for all, and curvtool beside its peers.

pip install -e '.[bench]'
python scripts/bench_trace.py checkpoints --json trace.json
python scripts/bench_trace.py checkpoints --quick
python scripts/bench_trace.py checkpoints --only digits_cnn --seeds 100

First table, at equal work (a pass is a product over the whole dataset with either kind of probe):
the variance of a pass's estimate under shared probes over that with a probe for every batch. The
variance with a probe for every batch is added up from those of the batches, which are independent.
Foreseen is B |H|_F^2 / mean |H_b|_F^2, both norms estimated by |Hz|^2.

Second table, work to a 95 % half-width of 1 %: the products of `hutchinson` with its defaults,
pilot and deflation included, over several seeds, and their root-mean-square error against a
reference: the whole diagonal where it has at most 10,000 entries, else a long run with deflation,
whose standard error is shown. The peers' estimators are means of z'Hz over n Rademacher probes
that serve all batches, so that their error is sqrt(variance of a sample / n): n is EXTRAPOLATED to
curvtool's error from that variance, since a run of thousands of products for every seed and peer
would take days. The variance is that of curvtool's shared probes, many samples; beside it stands
that of samples made by the peers' own `hessian(...).trace` and `hutchinson_trace`.

A product is one over the whole dataset, for everybody; a batch product is 1 / B of it, so that
ratios of work are the same in either. No time is measured and nothing is judged: the script ends
with 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from bench_common import Row, load_bench, machine, reason, second_derivatives
from bench_curvtool import CPU, objective
from bench_rivals import TRACES
from bench_tables import Column, number, remark, table, word
from torch import Tensor

from curvtool.algorithms.estimation import TraceSettings
from curvtool.algorithms.hutchinson import hutchinson
from curvtool.algorithms.planning import short_lanczos
from curvtool.operators.base import products
from curvtool.operators.heap import kept_heap
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.memory import default_memory
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

EPS = float(torch.finfo(torch.float32).eps)
# Seeds of each purpose, so that no two share a probe: of probes compared, of the reference.
COMPARED, REFERENCE = 1_000_000, 2_000_000
# So many products at most for the whole diagonal, the reference of small networks.
DENSE_LIMIT = 10_000
BLOCK = 8
LANCZOS_STEPS, DIRECTIONS = 32, 12


@dataclass(frozen=True)
class Case:
    """A checkpoint cut into batches, and how much is made of it.

    Attributes:
        name: of the checkpoint.
        batch_size: None leaves it to the checkpoint.
        shared: passes with shared probes.
        single: passes with a probe for every batch: each has B samples.
        seeds: solves; 0 for none.
        reference: products of the reference where the diagonal is too long.
        peers: samples made by each peer.
    """

    name: str
    batch_size: int | None
    shared: int
    single: int
    seeds: int
    reference: int
    peers: int


FULL = (
    Case("digits_cnn", None, shared=400, single=100, seeds=16, reference=0, peers=60),
    Case("char_gpt", 8, shared=120, single=24, seeds=0, reference=0, peers=0),
    Case("char_gpt", 4, shared=120, single=24, seeds=8, reference=240, peers=8),
)
QUICK = (
    Case("digits_cnn", None, shared=40, single=10, seeds=2, reference=0, peers=8),
    Case("char_gpt", 8, shared=12, single=4, seeds=0, reference=0, peers=0),
    Case("char_gpt", 4, shared=12, single=4, seeds=1, reference=60, peers=2),
)
PROBES: list[Column] = [
    ("checkpoint", word("name")),
    ("B", number("batches", "d")),
    ("passes shared", number("shared", "d")),
    ("per batch", number("single", "d")),
    ("variance shared", number("variance_shared", ".4g")),
    ("per batch", number("variance_single", ".4g")),
    ("ratio", number("ratio", ".2f")),
    ("its error", number("ratio_error", ".2f")),
    ("foreseen", number("foreseen", ".2f")),
    ("ratio / foreseen", number("agreement", ".2f")),
]
WORK: list[Column] = [
    ("checkpoint", word("name")),
    ("B", number("batches", "d")),
    ("beside", word("peer")),
    ("seeds", number("seeds", "d")),
    ("reference", number("reference", ".6g")),
    ("its error", number("reference_error", ".2%")),
    ("half-width", number("half_width", ".2%")),
    ("rms error", number("rms", ".2%")),
    ("stated", number("stated", ".2%")),
    ("products", number("products", ".1f")),
    ("batch products", number("batch_products", ".0f")),
    ("peer's products", number("peer_products", ".0f")),
    ("share of work", number("share", ".3f")),
    ("by stated error", number("share_by_stated", ".3f")),
    ("sd of z'Hz", number("sd", ".4g")),
    ("by peer", number("sd_by_peer", ".4g")),
    ("samples", number("samples_by_peer", "d")),
    ("", remark),
]


def drawn(operator: HessianOperator, purpose: Purpose, *index: int, seed: int) -> Tensor:
    """A Rademacher probe."""
    return streams.signs(
        purpose,
        *index,
        seed=seed,
        size=operator.size,
        dtype=operator.dtype,
        device=operator.device,
    )


def inner(a_P: Tensor, b_P: Tensor) -> float:
    """The inner product, added up in float64."""
    return float(a_P.double() @ b_P.double())


def compared(operator: HessianOperator, case: Case) -> tuple[Row, FloatArray]:
    """Variances of both kinds of probe, and what the norms foresee.

    Args:
        operator: with B terms.
        case: how many passes of each kind.

    Returns:
        A row, and the samples z'Hz of the shared probes.
    """
    B, seed = operator.num_terms, COMPARED + (case.batch_size or 0)
    shared, norms = np.empty(case.shared), np.empty(case.shared)
    for i in range(case.shared):
        z_P = drawn(operator, Purpose.TRACE_SHARED, i, 0, seed=seed)
        Hz_P = operator.matvec(z_P)
        shared[i], norms[i] = inner(z_P, Hz_P), inner(Hz_P, Hz_P)
    single, parts = np.empty((case.single, B)), np.empty((case.single, B))
    for i in range(case.single):
        for b in range(B):
            z_P = drawn(operator, Purpose.TRACE_PER_TERM, i, b, seed=seed)
            Tz_P = operator.term(b, z_P)
            single[i, b], parts[i, b] = inner(z_P, Tz_P), inner(Tz_P, Tz_P)
    variance = float(shared.var(ddof=1))
    of_terms = single.var(axis=0, ddof=1)
    ratio = variance / float(of_terms.sum())
    # T_b is H_b / B, or its weight's share of it: B |H|^2 / mean |H_b|^2 = |H|^2 / sum |T_b|^2.
    foreseen = float(norms.mean() / parts.mean(axis=0).sum())
    apart = (shared - shared.mean()) ** 2
    # Squared deviations scatter by their own spread; of the terms, as Gaussian ones would.
    relative = float(apart.var(ddof=1)) / len(apart) / variance**2
    relative += 2 * float((of_terms**2).sum()) / (case.single - 1) / float(of_terms.sum()) ** 2
    row = {
        "shared": case.shared,
        "single": case.single,
        "variance_shared": variance,
        "variance_single": float(of_terms.sum()),
        "ratio": ratio,
        "ratio_error": ratio * relative**0.5,
        "frobenius_squared": float(norms.mean()),
        "terms_frobenius_squared": float(parts.mean(axis=0).sum()),
        "foreseen": foreseen,
        "agreement": ratio / foreseen,
    }
    return row, shared


def reference(operator: HessianOperator, most: int) -> tuple[float, float]:
    """The trace and its standard error: from the diagonal, or a long run with deflation."""
    P = operator.size
    if P <= DENSE_LIMIT:
        operator.block = BLOCK
        total = 0.0
        for begin in range(0, P, BLOCK):
            rows = torch.zeros(min(BLOCK, P - begin), P, dtype=operator.dtype)
            rows.diagonal(begin).fill_(1.0)
            total += float(products(operator, rows).diagonal(begin).double().sum())
        operator.block = 1
        return total, 0.0
    _, Y_mP, _ = short_lanczos(operator, LANCZOS_STEPS, seed=REFERENCE)
    settings = TraceSettings(rel_err=None, max_hvps=most, seed=REFERENCE, noise=EPS)
    found = hutchinson(operator, settings, vectors=Y_mP[:DIRECTIONS].clone())
    return found.trace, found.stderr


def solved(operator: HessianOperator, case: Case) -> Row:
    """`hutchinson` with its defaults over all seeds, held against the reference."""
    truth, error = reference(operator, case.reference)
    runs: list[Row] = []
    for seed in range(case.seeds):
        told(f"{case.name}: seed {seed}")
        found = hutchinson(operator, TraceSettings(seed=seed, noise=EPS))
        runs.append({
            "seed": seed,
            "trace": found.trace,
            "stderr": found.stderr,
            "interval": list(found.interval),
            "products": found.hvps,
            "by_stage": found.hvps_by_stage,
            "sharing": found.sharing,
            "deflated": found.deflated,
            "covered": found.interval[0] <= truth <= found.interval[1],
        })
    errors = np.array([run["trace"] for run in runs]) - truth
    stated = np.array([run["stderr"] for run in runs])
    spent = fmean(run["products"] for run in runs)
    halves = [(run["interval"][1] - run["interval"][0]) / 2 / abs(run["trace"]) for run in runs]
    return {
        "seeds": case.seeds,
        "reference": truth,
        "reference_error": error / abs(truth),
        "half_width": fmean(halves),
        "rms": float(np.sqrt(np.mean(errors**2))) / abs(truth),
        "stated": float(np.sqrt(np.mean(stated**2))) / abs(truth),
        "products": spent,
        "batch_products": spent * operator.num_terms,
        "runs": runs,
    }


def beside_peers(folder: Path, case: Case, row: Row, samples: FloatArray) -> list[Row]:
    """What the peers need for the same error.

    Args:
        folder: of the checkpoints.
        case: the problem.
        row: from `solved`.
        samples: z'Hz of shared probes.

    Returns:
        A row for each peer; one that fails has the reason.
    """
    variance = float(samples.var(ddof=1))
    rows = []
    for peer, sampled in TRACES.items():
        told(f"{case.name}: {peer}")
        found = {**row, "peer": peer, "sd": variance**0.5}
        for name, share in (("rms", "share"), ("stated", "share_by_stated")):
            needed = variance / (row[name] * abs(row["reference"])) ** 2
            found[share] = row["products"] / needed
            found["peer_products" if name == "rms" else "peer_products_by_stated"] = needed
        try:
            bench = load_bench(folder, case.name, batch_size=case.batch_size, equal=False)
            torch.manual_seed(0)  # both peers draw from torch's own generator
            with second_derivatives():
                own = sampled(bench, number=case.peers)
            found["sd_by_peer"] = float(np.std(own, ddof=1))
            found["samples_by_peer"] = len(own)
            found["trace_by_peer"] = fmean(own)
        except Exception as error:  # noqa: BLE001  # any failure of a peer is a row, no end
            found["reason"] = reason(error)
        rows.append(found)
    return rows


def told(sentence: str) -> None:
    """Say on stderr what is done now."""
    print(f"  {sentence}", file=sys.stderr, flush=True)


def run(folder: Path, cases: Sequence[Case]) -> tuple[list[Row], list[Row]]:
    """All rows of both tables."""
    probes: list[Row] = []
    work: list[Row] = []
    samples: dict[str, list[FloatArray]] = {}
    for case in cases:
        made = objective(folder, case.name, batch_size=case.batch_size)
        operator = HessianOperator(made, graph_memory=default_memory(CPU))
        problem = {"name": case.name, "batches": operator.num_terms, "size": operator.size}
        told(f"{case.name}: {case.shared} passes shared, {case.single} per batch")
        row, shared = compared(operator, case)
        probes.append({**problem, **row})
        # z'Hz does not know of batches: samples of one network are pooled.
        samples.setdefault(case.name, []).append(shared)
        if case.seeds:
            told(f"{case.name}: reference")
            found = {**problem, **solved(operator, case)}
            del operator, made  # graphs, before a peer makes its own
            work += beside_peers(folder, case, found, np.concatenate(samples[case.name]))
    return probes, work


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of digits_cnn.pt and char_gpt.pt")
    parser.add_argument("--quick", action="store_true", help="few passes: to see that it runs")
    parser.add_argument("--only", choices=sorted({case.name for case in FULL}))
    parser.add_argument("--seeds", type=int, help="solves of each network")
    parser.add_argument("--json", type=Path, help="where to write all rows")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    warnings.simplefilter("ignore")
    arguments = parsed()
    cases = [
        case
        if arguments.seeds is None or not case.seeds
        else Case(**{**case.__dict__, "seeds": arguments.seeds})
        for case in (QUICK if arguments.quick else FULL)
        if arguments.only in {None, case.name}
    ]
    with kept_heap():  # as every run of curvtool has it
        probes, work = run(arguments.folder, cases)
    title = "Variance of a pass: shared probes over a probe for every batch"
    print(table(title, PROBES, probes))
    title = "Work to a 95 % half-width of 1 %, and the peers' for the same error (extrapolated)"
    print(table(title, WORK, work))
    if arguments.json is not None:
        record = {"machine": machine(), "probes": probes, "work": work}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
