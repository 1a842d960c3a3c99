"""Text to whole numbers: characters, bytes, or a tokenizer of the Hugging Face kind on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.data.examples import Vocabulary
from curvtool.problem.data.files import unreadable
from curvtool.problem.libraries import library
from curvtool.problem.wording import first_line

FORMS = (
    '"chars" (the characters of the text, sorted), "chars:abc..." (these, in this order), '
    '"chars-file:FILE" (those of a file), "bytes", "hf:FOLDER" or "FILE.json"'
)


@final
@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A text's tokens.

    Attributes:
        vocabulary: its name and size.
        encode: a whole text to one vector of int64; no special tokens are added.
    """

    vocabulary: Vocabulary
    encode: Callable[[str], Tensor]


def tokenizer_of(name: str, base: Path, text: str, place: object) -> Tokenizer:
    """Find the tokenizer.

    Args:
        name: as the spec has it, in one of `FORMS`.
        base: folder that its path is relative to.
        text: all of it, for "chars".
        place: the text's file, for messages.

    Returns:
        The tokenizer.

    Raises:
        InputError: for one that is not there or cannot be read.
    """
    kind, colon, argument = name.partition(":")
    if kind == "chars" and not (colon and not argument):
        return _characters(argument or "".join(sorted(set(text))), name, place, guessed=not colon)
    if kind == "chars-file" and argument:
        return _characters(_content(base / argument), name, place, guessed=False)
    if name == "bytes":
        encode = lambda text: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()  # noqa: E731
        return Tokenizer(Vocabulary(name, 256), encode)
    if kind == "hf" and argument:
        folder = base / argument
        if (folder / "tokenizer.json").is_file():
            return _fast(folder / "tokenizer.json", name)
        return _of_transformers(folder, name)
    if name.endswith(".json"):
        return _fast(base / name, name)
    raise InputError(f"{place}: expected tokenizer as {FORMS}; got {name!r}. Correct tokenizer.")


def _characters(characters: str, name: str, place: object, *, guessed: bool) -> Tokenizer:
    if len(set(characters)) < len(characters):
        twice = next(c for c in characters if characters.count(c) > 1)
        raise InputError(
            f"{place}: expected each character of the vocabulary once; {twice!r} is there "
            f"{characters.count(twice)} times. Correct tokenizer."
        )
    numbers = {character: i for i, character in enumerate(characters)}

    def encode(text: str) -> Tensor:
        strange = sorted(set(text) - numbers.keys())
        if strange:
            raise InputError(
                f"{place}: expected the tokenizer to know every character of the text; "
                f"{strange[0]!r} is not among its {len(numbers)}. Give the vocabulary that the "
                f'model was trained with: tokenizer = "chars:...".'
            )
        return torch.tensor([numbers[c] for c in text], dtype=torch.int64)

    label = name if len(name) <= 24 else f"{name[:21]}..."
    return Tokenizer(Vocabulary(label, len(numbers), guessed), encode)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise unreadable(path, "a file of characters", error, "Correct tokenizer.") from error


def _fast(path: Path, name: str) -> Tokenizer:
    """A tokenizer.json, which is data: vocabulary, merges, and rules by name."""
    tokenizers = library("tokenizers", "hf", f'tokenizer = "{name}"')
    try:
        made = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises Exception itself
        raise unreadable(path, "a tokenizer.json", error, "Copy the file again.") from error
    made.no_truncation()
    made.no_padding()

    def encode(text: str) -> Tensor:
        return torch.tensor(made.encode(text, add_special_tokens=False).ids, dtype=torch.int64)

    return Tokenizer(Vocabulary(name, int(made.get_vocab_size())), encode)


def _of_transformers(folder: Path, name: str) -> Tokenizer:
    """Older folders, with vocab.txt or a sentencepiece model; nothing is fetched, no code run."""
    if not folder.is_dir():
        raise InputError(
            f'tokenizer = "{name}": expected a folder with a tokenizer at {folder}; there is none. '
            f"Correct the path; nothing is downloaded."
        )
    transformers = library("transformers", "hf", f'tokenizer = "{name}"')
    try:
        made: Any = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers raises what its parts raise
        raise InputError(
            f'tokenizer = "{name}": expected a tokenizer in {folder}; transformers says: '
            f"{first_line(error)} Give tokenizer.json, or copy the folder whole."
        ) from error

    def encode(text: str) -> Tensor:
        ids = made(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.int64)

    return Tokenizer(Vocabulary(name, len(made)), encode)
