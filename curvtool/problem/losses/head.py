"""A model without its head: the last linear layer, for a loss that makes the logits itself.

Letters: D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.problem.wording import did_you_mean, kind_of, listed

_REMEDY = "Correct head in kwargs under [loss] (--loss-kwargs head=NAME), or leave it out."


@dataclass(frozen=True)
class Head:
    """The layer that makes a model's output, by its name.

    Attributes:
        name: as in the model's parameters, without `.weight`.
        loss: that leaves it out, for messages.
    """

    name: str
    loss: str = "cross_entropy"

    def leave_out(
        self, model: nn.Module, call: Callable[[], object], *, check_hooks: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run a model whose head hands its input on.

        The model is as before when this returns or raises. The head's parameters are read while
        it is called, so that those of `torch.func.functional_call` are the ones that are found.

        Args:
            model: has the head as its last layer.
            call: runs the model.
            check_hooks: refuse hooks on the head that expect logits. (Some are there for a moment,
                when a place is looked for that torch cannot differentiate.)

        Returns:
            The head's input, shape (..., D), and its weight (V, D) and bias (V,).

        Raises:
            InputError: where the head is not there, no linear layer, or not the last thing in the
                model.
        """
        head = self._find(model)
        hooks = (head._forward_hooks, head._backward_hooks, head._backward_pre_hooks)
        if check_hooks and any(hooks):
            raise InputError(
                f"{self.loss} expected a head without hooks on its output, since its logits are "
                f"never made as a whole; {self.name!r} has some. Remove them, or leave head out of "
                f"kwargs under [loss]."
            )
        seen: list[tuple[Tensor, Tensor, Tensor | None]] = []
        versions: list[int] = []

        def hand_on(x: Tensor) -> Tensor:
            # A tensor of its own, since a model may return its head's input; it shows writes too.
            x = x.view_as(x)
            seen.append((x, head.weight, head.bias))
            versions.append(x._version)
            return x

        head.forward = hand_on  # type: ignore[method-assign, assignment]
        try:
            output = call()
        finally:
            del head.forward
        # The same tensor, not one of the same shape: logits may be scaled, capped or normalised.
        for found, version in zip(seen, versions, strict=True):
            if found[0] is output and output._version == version:
                return found
        came = f"the model makes something else of what {self.name!r} gives"
        if not seen:
            came = f"the model never calls {self.name!r}"
        raise InputError(
            f"{self.loss} expected the head to be the last layer, whose output is the model's "
            f"output; {came}. {_REMEDY}"
        )

    def _find(self, model: nn.Module) -> nn.Linear:
        modules = dict(model.named_modules(remove_duplicate=False))
        linear = [name for name, m in modules.items() if name and isinstance(m, nn.Linear)]
        there = f"The model's linear layers are {listed(linear)}." if linear else "It has none."
        if self.name not in modules or not self.name:
            raise InputError(
                f"{self.loss} expected head to be the name of a linear layer in the model; there "
                f"is no {self.name!r}.{did_you_mean(self.name, linear)} {there} {_REMEDY}"
            )
        head = modules[self.name]
        # A subclass with a forward of its own may do anything, an adapter's sum for instance.
        if (
            not isinstance(head, nn.Linear)
            or type(head).forward is not nn.Linear.forward
            or "forward" in vars(head)
        ):
            raise InputError(
                f"{self.loss} expected head to be a plain torch.nn.Linear; {self.name!r} is "
                f"{kind_of(head)}. {there} {_REMEDY}"
            )
        return head
