"""A product written down as a program: what depends on v, apart from what does not.

`make_fx` records the operations of one product; those that v does not reach are done once, their
results become constants, handed in as inputs, so that batches of one shape share one program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.fx as fx
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from curvtool.operators.ways.base import Pieces
from curvtool.operators.ways.forward import dual_numbers, quiet_forward_mode
from curvtool.operators.ways.reverse import gradient_graph
from curvtool.problem.objective import Objective


@final
@dataclass(frozen=True, eq=False)
class Traced:
    """The part of H v of one batch as a program over v and constants.

    Attributes:
        program: takes the pieces of v and then the constants; gives pieces.
        constants: activations and factors of this batch.
        bytes: of the constants, without what the objective holds anyway.
    """

    program: fx.GraphModule
    constants: tuple[Tensor, ...]
    bytes: int

    @property
    def signature(self) -> tuple[object, ...]:
        """Equal for batches that one program serves."""
        constants = tuple((c.shape, c.stride(), c.dtype) for c in self.constants)
        return (self.program.code, constants)

    def __call__(self, v: Pieces) -> Pieces:
        """Run the program eagerly."""
        return run(self.program, v, self.constants)


def run(program: Callable[..., Any], v: Pieces, constants: Sequence[Tensor]) -> Pieces:
    """Run a program, compiled or not, and give every parameter its piece."""
    with torch.no_grad():
        found: Pieces = program(*v, *constants)
    return found


def traced_reverse(objective: Objective, index: int) -> Traced:
    """The backward pass through the kept gradient graph of a batch, as a program.

    Args:
        objective: the objective.
        index: of the batch.

    Returns:
        The program, with about 1.3 to 3.4 times the memory of the graph. Costs about three
        gradients and a millisecond for each operation (0.2 to 2.5 s a batch).
    """
    graph = gradient_graph(objective, index)
    return _traced(objective, index, lambda *v: graph.product(v, keep=True))


def traced_forward(objective: Objective, index: int) -> Traced:
    """Forward-mode AD over a batch's gradient as a program: what `torch.func.linearize` does.

    Args:
        objective: the objective.
        index: of the batch.

    Returns:
        The program, with about 2.7 to 5.4 times the memory of the graph. Costs four gradients and
        two milliseconds for each operation (3 to 8 s a batch).
    """
    return _traced(objective, index, lambda *v: dual_numbers(objective, index, v))


def _traced(objective: Objective, index: int, product: Callable[..., Pieces]) -> Traced:
    objective.share(index)
    # A number expanded: tracing needs shapes, and P numbers of memory are not needed for that.
    v = [p.detach().new_zeros(()).expand_as(p) for p in objective.parameters]
    with quiet_forward_mode():
        trace = make_fx(
            lambda *pieces: tuple(product(*pieces)),
            # A loss that reads its value reads what does not depend on v: a constant.
            _error_on_data_dependent_ops=False,
        )
        recorded = trace(*v)
    program, constants = _divided(recorded)
    resident = {t.untyped_storage().data_ptr() for t in objective.resident_tensors(index)}
    storages = {c.untyped_storage().data_ptr(): c.untyped_storage().nbytes() for c in constants}
    held = sum(size for pointer, size in storages.items() if pointer not in resident)
    return Traced(program, constants, held)


def _divided(recorded: fx.GraphModule) -> tuple[fx.GraphModule, tuple[Tensor, ...]]:
    """Evaluate what v does not reach; its results become further inputs of what is left."""
    # torch's own `const_fold.split_const_subgraphs` hides the constants and took 10 times as long.
    linear: set[fx.Node] = set()
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in recorded.graph.nodes:
            if node.op == "placeholder" or any(a in linear for a in node.all_input_nodes):
                linear.add(node)
            elif node.op != "output":
                values[node] = _value(recorded, node, values)
    divided = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in recorded.graph.nodes:
        if node.op == "placeholder":
            copies[node] = divided.placeholder(node.name)
    constants: list[Tensor] = []

    def constant(node: fx.Node) -> None:
        if node not in copies:
            copies[node] = divided.placeholder(f"constant_{len(constants)}")
            # Detached, or the graph that it came from would stay.
            constants.append(values[node].detach())

    # Inputs stand before all else in a program.
    for node in recorded.graph.nodes:
        if node in linear or node.op == "output":
            for argument in node.all_input_nodes:
                if argument not in linear:
                    constant(argument)
    for node in recorded.graph.nodes:
        if node.op == "output":
            divided.output(fx.node.map_arg(node.args[0], copies.__getitem__))
        elif node in linear and node.op != "placeholder":
            copies[node] = divided.node_copy(node, copies.__getitem__)
    divided.eliminate_dead_code()
    divided.lint()
    return fx.GraphModule({}, divided), tuple(constants)


def _value(recorded: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    if node.op == "get_attr":
        found: Any = recorded
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return found
    assert callable(node.target)
    args = fx.node.map_arg(node.args, values.__getitem__)
    kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
    return node.target(*args, **kwargs)
