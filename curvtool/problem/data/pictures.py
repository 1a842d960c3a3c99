"""Encoded pictures as tensors in [0, 1], (channels, height, width)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.data.files import unreadable

# As torchvision's ImageFolder.
SUFFIXES = ("jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp")
MODES = ("RGB", "L")
MODE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "mode": ('"RGB" or "L" (grey)', lambda value: value in MODES)
}


def decoded(content: bytes, place: object, mode: str) -> Tensor:
    """One picture.

    Args:
        content: of a file.
        place: of the picture, for messages.
        mode: "RGB" or "L", as Pillow converts to it.

    Returns:
        float32 in [0, 1], of three channels or one.

    Raises:
        InputError: for what is no picture, or unfolds into far more pixels than a picture has.
    """  # noqa: DOC501  # unreadable is not itself an exception
    from PIL import Image
    from torchvision.transforms.v2 import functional as V

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # By name: formats beyond these start other programs or have readers nobody watches.
            kinds = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
            with Image.open(io.BytesIO(content), formats=kinds) as picture:
                picture.load()
                pixels = V.pil_to_tensor(picture.convert(mode))
                # As ToTensor does it; multiplying by 1/255 would differ in the last bit.
                tensor: Tensor = pixels.to(torch.float32).div(255)
                return tensor
    except InputError:
        raise
    except Exception as error:  # Pillow's readers have any
        raise unreadable(
            place, "a picture", error, "Check that the dataset is whole on disk."
        ) from error
