"""Whether weights are those of an architecture of torchvision or timm, built without memory.

To build all of torchvision takes eleven seconds; a name that only one family has leaves a few.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from curvtool.problem.checkpoint.fit import Row
from curvtool.problem.checkpoint.names import best_variant
from curvtool.problem.inspection.guess import (
    ModelGuess,
    Told,
    meta_tensors,
    on_meta,
    rows_that_misfit,
)
from curvtool.problem.wording import listed

# The end of a name that a family has -> beginnings of its models' names in torchvision.
_FAMILIES: dict[str, tuple[str, ...]] = {
    "layer1.0.conv1.weight": ("resnet", "resnext", "wide_resnet", "deeplabv3_resnet", "fcn_resnet"),
    "layer1.0.conv1.0.weight": ("r3d", "mc3", "r2plus1d"),
    "classifier.6.weight": ("alexnet", "vgg"),
    "denseblock1.denselayer1.norm1.weight": ("densenet",),
    "features.1.0.attn.relative_position_bias_table": ("swin_t", "swin_s", "swin_b"),
    "features.1.0.attn.logit_scale": ("swin_v2",),
    "patch_embed.proj.weight": ("swin3d",),
    "features.1.0.layer_scale": ("convnext",),
    "features.1.conv.0.0.weight": ("mobilenet_v2",),
    "features.1.block.0.0.weight": ("mobilenet_v3",),
    "features.1.0.block.0.0.weight": ("efficientnet",),
    "backbone.1.block.0.0.weight": ("deeplabv3_mobilenet", "lraspp"),
    "features.3.expand3x3.weight": ("squeezenet",),
    "Conv2d_1a_3x3.conv.weight": ("inception",),
    "inception3a.branch1.conv.weight": ("googlenet",),
    "stage2.0.branch1.0.weight": ("shufflenet",),
    "layers.8.0.layers.0.weight": ("mnasnet",),
    "encoder.layers.encoder_layer_0.ln_1.weight": ("vit",),
    "stem.1.0.weight": ("maxvit",),
    "conv_proj.weight": ("mvit",),
    "features.0.0.0.weight": ("s3d",),
}
_SEGMENTING = ("deeplabv3", "fcn", "lraspp")
# How many tensors may differ for a model to be called a variant.
_MOST_DIFFERENT = 4
_NAMES = ("arch", "architecture", "model", "model_name", "name", "backbone", "encoder")


def torchvision_guess(tensors: Mapping[str, Tensor], told: Told) -> ModelGuess | None:
    """Name the architecture of torchvision that has these tensors.

    Args:
        tensors: of the checkpoint.
        told: values beside them, which may name it.

    Returns:
        The architecture with its classes; one that says which it nearly is; None where none is
        near. Costs some tenths of a second for each model of a family.
    """
    names = [p for end, prefixes in _FAMILIES.items() if _has(tensors, end) for p in prefixes]
    words = told.words(*_NAMES)
    if not names and not words:
        return None
    from torchvision import models  # two seconds, and most checkpoints need none of it

    known = [n for n in models.list_models() if not n.startswith("quantized")]
    likely = [w for w in words if w in known]
    likely += [n for n in known if n.startswith(tuple(names)) and n not in likely]
    nearest: tuple[str, list[Row]] | None = None
    for name in likely:
        builder = models.get_model_builder(name)
        kwargs, rows = _fitted(builder, tensors)
        if kwargs is not None and not rows:
            return _torchvision(name, kwargs)
        if kwargs is not None and (nearest is None or len(rows) < len(nearest[1])):
            nearest = name, rows
    if nearest is None or len(nearest[1]) > _MOST_DIFFERENT:
        return None
    name, rows = nearest
    differs = listed(
        f"{key}: {got}, not {wanted.removesuffix(' without values')}" for key, wanted, got in rows
    )
    return ModelGuess(
        why=(
            f"It is nearly torchvision's {name}, but for {differs}.",
            "Name the function that made this variant, e.g. model.py:build.",
        )
    )


def timm_guess(tensors: Mapping[str, Tensor], told: Told) -> ModelGuess | None:
    """The model of timm that the checkpoint names, where its tensors fit.

    Args:
        tensors: of the checkpoint.
        told: values beside them.

    Returns:
        The model; None where timm is not installed, or none is named that fits.
    """
    words = told.words(*_NAMES)
    if not words or importlib.util.find_spec("timm") is None:
        return None
    import timm

    for word in words:
        name = word.removeprefix("timm/").partition(".")[0]
        if not timm.is_model(name):
            continue
        kwargs, rows = _fitted(
            lambda name=name, **kw: timm.create_model(name, pretrained=False, **kw), tensors
        )
        if kwargs is not None and not rows:
            why = (f"The checkpoint names {name}, and all names and shapes are timm's.",)
            return ModelGuess(f"timm:{name}", kwargs, why, loss="cross_entropy")
    return None


def _torchvision(name: str, kwargs: dict[str, object]) -> ModelGuess:
    segments = name.startswith(_SEGMENTING)
    return ModelGuess(
        f"torchvision:{name}",
        kwargs,
        (f"All names and shapes are those of torchvision's {name}.",),
        output="out" if segments else None,
        loss="cross_entropy",
    )


def _has(tensors: Mapping[str, Tensor], end: str) -> bool:
    return any(key == end or key.endswith(f".{end}") for key in tensors)


def _fitted(
    builder: Callable[..., nn.Module], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, object] | None, list[Row]]:
    """Arguments under which fewest tensors misfit, and these; the classes are the file's."""
    best: tuple[dict[str, object] | None, list[Row]] = (None, [])
    for given in _variants(builder, tensors):
        expected = _built(builder, given)
        if expected is None:
            continue
        rows = rows_that_misfit(expected, tensors)
        classes = _classes(expected, tensors)
        kwargs = dict(given)
        if classes is not None:
            again = _built(builder, {**given, "num_classes": classes})
            found = None if again is None else rows_that_misfit(again, tensors)
            if found is not None and len(found) < len(rows):
                rows, kwargs = found, {**given, "num_classes": classes}
        if best[0] is None or len(rows) < len(best[1]):
            best = kwargs, rows
    return best


def _variants(
    builder: Callable[..., object], tensors: Mapping[str, Tensor]
) -> Iterator[dict[str, object]]:
    parameters = inspect.signature(builder).parameters
    if "aux_loss" in parameters:
        yield {"aux_loss": _has(tensors, "aux_classifier.4.weight")}
    elif getattr(builder, "__name__", "") in {"googlenet", "inception_v3"}:
        yield {"aux_logits": any("aux" in key.lower() for key in tensors)}
    else:
        yield {}


def _built(
    builder: Callable[..., nn.Module], kwargs: Mapping[str, object]
) -> dict[str, Tensor] | None:
    parameters = inspect.signature(builder).parameters
    ours: dict[str, object] = {"weights": None} if "weights" in parameters else {}
    if "weights_backbone" in parameters:
        ours["weights_backbone"] = None
    if "aux_logits" in kwargs:
        ours["init_weights"] = False
    try:
        with on_meta():
            return meta_tensors(builder(**ours, **kwargs))
    # Some draw weights that the device does not have, or have no such argument.
    except (NotImplementedError, TypeError, ValueError, RuntimeError):
        return None


def _classes(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> int | None:
    """Classes of the file, where outputs alone differ: the first number of the shapes."""
    named = best_variant(expected, tensors)[1]
    found = {
        int(named[key].shape[0])
        for key, wanted in expected.items()
        if key in named
        and named[key].shape != wanted.shape
        and named[key].shape[1:] == wanted.shape[1:]
    }
    return found.pop() if len(found) == 1 else None
