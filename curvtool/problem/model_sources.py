"""From `build` of the spec to a module: built-in keyword, a library's, or the user's function.

A further kind of model is one function here and one line in `SCHEMES`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from torch import nn

from curvtool.errors import InputError
from curvtool.problem.builders import huggingface, timm_model
from curvtool.problem.builders.room import in_proportion
from curvtool.problem.cures import unwrapped
from curvtool.problem.hooks import RESERVED, is_hook, load_hook
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.spec import ModelSpec
from curvtool.problem.wording import did_you_mean, first_line, kind_of, misfit_of_kwargs

Build = Callable[[], object]


def resolve_model(spec: ModelSpec, checkpoint: Path | None = None) -> Build:
    """Find what builds the model, and check its arguments; nothing is built yet.

    Args:
        spec: the model of the problem.
        checkpoint: the file or folder with the weights, beside which a model's config may lie.

    Returns:
        A function of no arguments that builds it.

    Raises:
        InputError: for a name that is not known, code that may not run or is not there, or
            arguments that the builder does not have.
    """
    scheme, _, argument = spec.build.partition(":")
    if scheme in SCHEMES and (argument or spec.build in ALONE):
        build = SCHEMES[scheme](spec, argument, checkpoint)
        # The builder of transformers looks at its config, which says more than the arguments.
        return build if scheme in ALONE else in_proportion(spec, build, checkpoint)
    if spec.build in BUILTIN_MODELS:
        return in_proportion(spec, _checked(spec, BUILTIN_MODELS[spec.build], {}), checkpoint)
    if is_hook(spec.build):
        hook = load_hook("model", spec.build, spec.origin)
        hook.check_kwargs(spec.kwargs, "--model-kwargs")
        return lambda: hook.call(**spec.kwargs)
    choices = [*BUILTIN_MODELS, *ALONE, *(f"{scheme}:NAME" for scheme in SCHEMES)]
    later = " That format is not a model in this version." if scheme in RESERVED else ""
    raise InputError(
        f"{spec.origin.label}: expected the model as one of {', '.join(choices)}, file.py:build "
        f"or package.module:build; got {spec.build!r}.{later}"
        f"{did_you_mean(spec.build, [*BUILTIN_MODELS, *SCHEMES])}"
    )


def build_model(spec: ModelSpec, build: Build) -> nn.Module:
    """Build the module and bring it to the CPU.

    Args:
        spec: the model of the problem, for messages.
        build: what `resolve_model` gave.

    Returns:
        The module, in the mode that the builder left it in.

    Raises:
        InputError: where a builder of ours or torchvision's refuses its arguments, or the
            user's returns something else than a module.
        HookError: caused by what the user's builder raised.
    """
    try:
        module = build()
    except InputError:
        raise
    except (
        *(ValueError, TypeError, RuntimeError, AssertionError),
        *(LookupError, ArithmeticError, AttributeError),
    ) as error:
        raise InputError(
            f"{spec.origin.label}: expected arguments that {spec.build} can be built with; it "
            f"refused {dict(spec.kwargs)}: {first_line(error).rstrip('.')}. Correct "
            f"--model-kwargs, or kwargs under [model]."
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{spec.origin.label}: expected {spec.build} to return a torch.nn.Module; it returned "
            f"{kind_of(module)}. Return the model itself."
        )
    # Before the weights are loaded, which then find the names they were saved under.
    module = unwrapped(module)
    return module if any(p.is_meta for p in module.parameters()) else module.cpu()


def _torchvision(spec: ModelSpec, name: str, checkpoint: Path | None) -> Build:
    del checkpoint
    from torchvision import models  # 1 s, and most models need none of it

    names = models.list_models()
    if name.lower() not in names:
        raise InputError(
            f"{spec.origin.label}: expected a model of torchvision after torchvision:; got "
            f"{name!r}.{did_you_mean(name.lower(), names)} The names are those of "
            f"torchvision.models.list_models()."
        )
    # Weights come from the checkpoint: nothing is downloaded, and nothing drawn in vain.
    builder = models.get_model_builder(name)
    taken = inspect.signature(builder).parameters
    for refused in ("weights", "weights_backbone"):
        if spec.kwargs.get(refused) is not None:
            raise InputError(
                f"{spec.origin.label}: expected the weights of {spec.build} to come from the "
                f"checkpoint; got {refused}={spec.kwargs[refused]!r}. Remove that argument."
            )
    ours: dict[str, object] = {"weights": None}
    if "weights_backbone" in taken:
        ours["weights_backbone"] = None
    if name.lower() in {"googlenet", "inception_v3"}:
        ours["init_weights"] = False
    return _checked(spec, builder, ours)


def _checked(spec: ModelSpec, builder: Callable[..., object], ours: dict[str, object]) -> Build:
    misfit = misfit_of_kwargs(builder, {**ours, **spec.kwargs})
    if misfit:
        raise InputError(
            f"{spec.origin.label}: expected arguments that {spec.build} has; got "
            f"{dict(spec.kwargs)}: {misfit} Correct --model-kwargs, or kwargs under [model]."
        )
    return lambda: builder(**{**ours, **spec.kwargs})


SCHEMES: dict[str, Callable[[ModelSpec, str, Path | None], Build]] = {
    "torchvision": _torchvision,
    "timm": timm_model,
    "hf": huggingface,
}
ALONE = ("hf",)  # schemes that need no name after them
