"""The losses by name. A further one is a function that returns a formula, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from curvtool.errors import InputError
from curvtool.problem.batch import Loss
from curvtool.problem.hooks import is_hook, load_hook
from curvtool.problem.losses.classes import cross_entropy, nll
from curvtool.problem.losses.contrastive import Contrast, ContrastiveLoss, contrastive
from curvtool.problem.losses.hook import HookLoss
from curvtool.problem.losses.own import Own, OwnLoss, hf
from curvtool.problem.losses.parts import BuiltinLoss, Formula, HeadFormula
from curvtool.problem.losses.taking import Setting
from curvtool.problem.losses.tokens import TokenFormula, causal_lm, masked_lm
from curvtool.problem.losses.values import bce, huber, mse
from curvtool.problem.spec import ProblemSpec
from curvtool.problem.wording import did_you_mean, first_line, misfit_of_kwargs

Made = Formula | HeadFormula | TokenFormula | Contrast | Own
LOSSES: dict[str, Callable[..., Made]] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
    "bce": bce,
    "nll": nll,
    "huber": huber,
    "causal_lm": causal_lm,
    "masked_lm": masked_lm,
    "contrastive": contrastive,
    "hf": hf,
}


def resolve_loss(problem: ProblemSpec) -> Loss:
    """Make the loss that the problem names.

    Args:
        problem: the whole problem, since a loss has to know the names of inputs and targets.

    Returns:
        The loss, ready to be called.

    Raises:
        InputError: for a name that is not known, code that may not run or is not there, or
            arguments that do not fit.
    """  # noqa: DOC501  # _no_weights is not itself an exception
    spec = problem.loss
    if is_hook(spec.name):
        hook = load_hook("loss", spec.name, spec.origin)
        hook.check_kwargs(spec.kwargs, "--loss-kwargs", positional=2)
        if problem.data.weights is not None:
            raise _no_weights(spec.name, problem.data.weights)
        return HookLoss(spec.name, hook, dict(spec.kwargs))
    if spec.name not in LOSSES:
        raise InputError(
            f"{spec.origin.label}: expected the loss as one of {', '.join(LOSSES)}, file.py:loss "
            f"or package.module:loss; got {spec.name!r}.{did_you_mean(spec.name, LOSSES)}"
        )
    builder = LOSSES[spec.name]
    misfit = misfit_of_kwargs(builder, spec.kwargs)
    if misfit:
        raise InputError(
            f"{spec.origin.label}: expected arguments that {spec.name} has; got "
            f"{dict(spec.kwargs)}: {misfit} Correct --loss-kwargs, or kwargs under [loss]."
        )
    try:
        made = builder(**spec.kwargs)
    except TypeError as error:
        raise InputError(
            f"{spec.origin.label}: expected arguments of the right type for {spec.name}; got "
            f"{dict(spec.kwargs)} ({first_line(error)}). Correct --loss-kwargs, or kwargs under "
            f"[loss]."
        ) from error
    setting = Setting(
        model=problem.model.build,
        user_model=is_hook(problem.model.build),
        inputs=problem.data.inputs,
        targets=problem.data.targets,
        output=problem.model.output,
    )
    loss = _loss_of(spec.name, made, setting)
    if problem.data.weights is not None and not isinstance(loss, BuiltinLoss):
        raise _no_weights(spec.name, problem.data.weights)
    return loss


def _no_weights(name: str, weights: str) -> InputError:
    return InputError(
        f"{name} expected data without weights, since it is no sum over predictions that they "
        f"could be factors of; weights = {weights!r} is set under [data]. Leave it out, and weigh "
        f"the examples in a loss of your own."
    )


def _loss_of(name: str, made: Made, setting: Setting) -> Loss:
    if isinstance(made, Contrast):
        return ContrastiveLoss(name, made, setting)
    if isinstance(made, Own):
        return OwnLoss(name, made, setting)
    if isinstance(made, TokenFormula):
        return BuiltinLoss(name, made.formula, setting, made.target, made.labels)
    return BuiltinLoss(name, made, setting)
