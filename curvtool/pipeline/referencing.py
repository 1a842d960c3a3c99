"""The float64 products that a prepared solve is held against."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from curvtool.operators.base import NoReference, SymmetricOperator
from curvtool.operators.preflight import LEAST_NOISE
from curvtool.operators.recorded import Recorded
from curvtool.operators.reference import ReferenceHessian
from curvtool.operators.sharing import ShardedRows, Summed, shared_out
from curvtool.operators.ways.registry import way_named
from curvtool.pipeline.preparing import Prepared
from curvtool.pipeline.sharded import ShardedPrepared
from curvtool.resuming.session import Session


def reference_of(
    prepared: Prepared | ShardedPrepared,
    session: Session | None,
    *,
    block: tuple[str, Sequence[int]] | None = None,
    whole_vectors: bool = False,
) -> SymmetricOperator | None:
    """H in float64, over the whole dataset, on the vectors of the solve's own operator.

    Args:
        prepared: by `ready`.
        session: None where nothing is recorded.
        block: name and tensors of a diagonal block that is meant; None for the whole.
        whole_vectors: whether every process has whole vectors; blocks always do.

    Returns:
        The operator, of dtype float64; None where parameters are shared out, where products are
        differences, and where the model cannot be computed in float64. Costs a forward pass in
        float64.
    """
    if isinstance(prepared, ShardedPrepared):
        return None
    operator = prepared.planned.operator
    way = way_named(way_named(operator.way).checked_as or operator.way)
    if not way.exact:
        return None
    name, places = block or ("", None)
    local = ReferenceHessian(prepared.objective, way=way.name, places=places)
    try:
        local.prepared()
        problem = ""
    except NoReference as error:
        problem = str(error)
    whole = prepared.whole
    if any([problem] if whole is None else whole.group.of_all(problem)):
        return None
    if session is None:
        return local
    local.recorder = session.local_recorder
    label = f"float64 {name}: "
    if whole is None:
        return Recorded(local, session.recorder, label)
    together = block is not None or whole_vectors or not shared_out(local, whole.group)
    shared = (Summed if together else ShardedRows)(local, whole.group, share=whole.share)
    shared.local_recorder = session.local_recorder
    return Recorded(shared, session.recorder, f"{label}whole ")


def noise_of(prepared: Prepared | ShardedPrepared, reference: SymmetricOperator | None) -> float:
    """Relative error of a product that certifies.

    Args:
        prepared: by `ready`.
        reference: from `reference_of`.

    Returns:
        Without a reference, what a few examples showed of the operator's own products. A float64
        product rounds as the float32 one does, in other units of the last place; ten times that is
        taken.
    """
    checked = prepared.preflight
    if reference is None:
        return checked.noise
    double = torch.finfo(torch.float64).eps
    units = checked.noise / torch.finfo(prepared.objective.dtype).eps
    return 10 * double * max(1.0, units / LEAST_NOISE)
