"""Preprocessing by name: `transforms = [{ name = "divide", by = 255 }, ...]` under [data].

Each changes a tensor whose first dimension runs over the examples, and each example by itself, so
that no batch size shows. None is random. Pictures are (N, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from curvtool.errors import InputError

Change = Callable[[Tensor], Tensor]
_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int64": torch.int64,
    "bool": torch.bool,
}
_METHODS = ("bilinear", "bicubic", "nearest", "area")


def divide(*, by: float) -> Change:
    """Divide by a number; whole numbers become float32."""
    number = _number("by", by)
    if not number:
        raise InputError("expected by to be no zero.")
    return lambda t: t / number


def multiply(*, by: float) -> Change:
    """Multiply by a number: a whole one leaves whole numbers whole."""
    _number("by", by)
    return lambda t: t * by


def add(*, by: float) -> Change:
    """Add a number: a whole one leaves whole numbers whole (labels that begin at 1: -1)."""
    _number("by", by)
    return lambda t: t + by


def normalize(*, mean: float | list[float], std: float | list[float]) -> Change:
    """(x - mean) / std, with one number, or one for each channel (the axis after the examples)."""
    means, stds = _numbers("mean", mean), _numbers("std", std)
    if min(stds) <= 0:
        raise InputError(f"expected std to be positive; got {std!r}.")

    def change(t: Tensor) -> Tensor:
        t = t if t.is_floating_point() else t.to(torch.get_default_dtype())
        return (t - _by_channel("mean", means, t)) / _by_channel("std", stds, t)

    return change


def reshape(*, shape: list[int]) -> Change:
    """Give each example a shape; one entry may be -1."""
    sizes = _sizes("shape", shape, least=-1)
    return lambda t: t.reshape(len(t), *sizes)


def flatten() -> Change:
    """Make each example a vector."""
    return lambda t: t.flatten(1)


def permute(*, order: list[int]) -> Change:
    """Reorder each example's axes: [2, 0, 1] makes channels-last pictures channels-first."""
    axes = _sizes("order", order, least=0)
    if sorted(axes) != list(range(len(axes))):
        raise InputError(f"expected order to name each axis once, from 0; got {order!r}.")
    return lambda t: t.permute(0, *(a + 1 for a in axes))


def resize(*, size: int | list[int], method: str = "bilinear") -> Change:
    """Resize pictures.

    Args:
        size: (height, width), or a number for the shorter side.
        method: bilinear and bicubic are antialiased, as torchvision's are for tensors and for PIL's
            pictures; "area" is the mean over the pixels that a new one covers.

    Returns:
        The change.

    Raises:
        InputError: for other sizes or methods.
    """
    sizes = _sizes("size", size, least=1)
    if len(sizes) > 2 or method not in _METHODS:
        raise InputError(
            f"expected size as a number or [height, width], and method among "
            f"{', '.join(_METHODS)}; got {size!r}, {method!r}."
        )

    def change(t: Tensor) -> Tensor:
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as V

        _require_pictures(t)
        if method == "area":
            return F.interpolate(_floating(t), _resized(t, sizes), mode="area")
        mode = InterpolationMode(method)
        resized: Tensor = V.resize(_floating(t), _resized(t, sizes), mode, antialias=True)
        return resized

    return change


def center_crop(*, size: int | list[int]) -> Change:
    """Keep the centre of pictures; what is smaller is filled with zeros."""
    sizes = _sizes("size", size, least=1)
    if len(sizes) > 2:
        raise InputError(f"expected size as a number or [height, width]; got {size!r}.")
    square = list(sizes) if len(sizes) == 2 else [sizes[0], sizes[0]]

    def change(t: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional as V

        _require_pictures(t)
        cropped: Tensor = V.center_crop(t, square)
        return cropped

    return change


def grayscale(*, channels: int = 1) -> Change:
    """Grey of RGB (0.2989 R + 0.587 G + 0.114 B), in one channel or three alike; grey stays."""
    if channels not in {1, 3}:
        raise InputError(f"expected channels to be 1 or 3; got {channels!r}.")

    def change(t: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional as V

        _require_pictures(t)
        grey = t if t.shape[1] == 1 else V.rgb_to_grayscale(_floating(t))
        return grey.expand(-1, channels, -1, -1)

    return change


def rgb() -> Change:
    """Three channels alike of grey pictures; three stay, and a fourth (alpha) is dropped."""

    def change(t: Tensor) -> Tensor:
        _require_pictures(t)
        return t.expand(-1, 3, -1, -1) if t.shape[1] == 1 else t[:, :3]

    return change


def one_hot(*, classes: int) -> Change:
    """Labels as rows of zeros and a one, float32."""
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise InputError(f"expected classes as a whole number of at least 1; got {classes!r}.")

    def change(t: Tensor) -> Tensor:
        if t.is_floating_point() or (t.numel() and not 0 <= int(t.min()) <= int(t.max()) < classes):
            came = t.dtype if t.is_floating_point() else f"{int(t.min())} to {int(t.max())}"
            raise InputError(f"expected labels from 0 to {classes - 1}; got {came}.")
        return F.one_hot(t.long(), classes).to(torch.float32)

    return change


def dtype(*, to: str) -> Change:
    """Convert numbers.

    Args:
        to: one of float16, bfloat16, float32, float64, int64, bool; to int64 whole floats only.

    Returns:
        The change.

    Raises:
        InputError: for another dtype.
    """
    if to not in _DTYPES:
        raise InputError(f"expected to as one of {', '.join(_DTYPES)}; got {to!r}.")

    def change(t: Tensor) -> Tensor:
        made = t.to(_DTYPES[to])
        if to == "int64" and t.is_floating_point() and not torch.equal(made.to(t.dtype), t):
            raise InputError("expected whole numbers where they are to become int64; some are not.")
        return made

    return change


TRANSFORMS: Mapping[str, Callable[..., Change]] = {
    function.__name__: function
    for function in (
        *(divide, multiply, add, normalize, reshape, flatten, permute, resize, center_crop),
        *(grayscale, rgb, one_hot, dtype),
    )
}


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"expected {name} as a number; got {value!r}.")
    return float(value)


def _numbers(name: str, value: object) -> list[float]:
    values = value if isinstance(value, list) and value else [value]
    return [_number(name, v) for v in values]


def _sizes(name: str, value: object, *, least: int) -> tuple[int, ...]:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= least]
    if not values or len(whole) < len(values):
        raise InputError(f"expected {name} as whole numbers of at least {least}; got {value!r}.")
    return tuple(whole)


def _by_channel(name: str, numbers: list[float], t: Tensor) -> Tensor:
    channels = t.shape[1] if t.ndim > 1 else 1
    if len(numbers) not in {1, channels}:
        raise InputError(
            f"expected one {name}, or one for each of {channels} channels; got {len(numbers)}."
        )
    made = torch.tensor(numbers, dtype=t.dtype)
    return made if len(numbers) == 1 else made.reshape(-1, *(1,) * (t.ndim - 2))


def _require_pictures(t: Tensor) -> None:
    if t.ndim != 4:
        raise InputError(
            f"expected pictures (channels, height, width); got examples of shape "
            f"{tuple(t.shape[1:])}: reshape or permute them before."
        )


def _floating(t: Tensor) -> Tensor:
    return t if t.is_floating_point() else t.to(torch.get_default_dtype())


def _resized(t: Tensor, sizes: tuple[int, ...]) -> list[int]:
    if len(sizes) == 2:
        return list(sizes)
    height, width = t.shape[-2:]
    if height <= width:
        return [sizes[0], int(sizes[0] * width / height)]
    return [int(sizes[0] * height / width), sizes[0]]
