"""The largest group among bearers of a last name, by an LSTM on its letters (package ethnicolr2).

The model's class is the package's own, whose `models.py` imports nothing but torch; the data are
the US census's table of last names, which is part of the package.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import string
from pathlib import Path

import torch
from torch import Tensor, nn

REAL = os.environ.get("CURVTOOL_REAL", "real")  # where scripts/fetch_real.py put the packages
DATA = "ethnicolr2/ethnicolr2/data/census/census_2010.csv"
MODELS = "ethnicolr2/ethnicolr2/models.py"
LETTERS = string.ascii_uppercase + string.ascii_lowercase
LENGTH = 15
OTHER = len(LETTERS) + 1  # whatever is no letter, and the room after the name
# In the order of the model's outputs; the fifth is "other".
GROUPS = (("pctwhite",), ("pctblack",), ("pcthispanic",), ("pctapi",), ("pctaian", "pct2prace"))


def build(root: str = REAL) -> nn.Module:
    """The LSTM of `census_lstm_lastname.pt`: two layers of 256, five log-probabilities."""
    spec = importlib.util.spec_from_file_location("ethnicolr2_models", Path(root, MODELS))
    assert spec is not None
    assert spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    network: nn.Module = models.LSTM(OTHER + 1, 256, len(GROUPS), num_layers=2)
    return network


def dataset(root: str = REAL, names: int = 20_000) -> tuple[Tensor, Tensor]:
    """The most frequent last names, as 15 symbols each, and the largest group of each."""
    symbols: list[list[int]] = []
    labels: list[int] = []
    with Path(root, DATA).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if len(labels) == names:
                break
            shares = [max(_percent(row[column]) for column in group) for group in GROUPS]
            name = row["name"].title()[:LENGTH]
            found = [LETTERS.find(letter) for letter in name]
            ids = [OTHER if index < 0 else index for index in found]
            symbols.append(ids + [OTHER] * (LENGTH - len(ids)))
            labels.append(shares.index(max(shares)))
    return torch.tensor(symbols), torch.tensor(labels)


def _percent(text: str) -> float:
    # "(S)" is what the census withholds, of few people.
    return 0.0 if text == "(S)" else float(text)
