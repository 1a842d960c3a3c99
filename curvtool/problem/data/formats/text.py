"""`text:FILE`: plain text for a language model, in windows of one length without overlap.

Window i is the tokens from i T to before (i + 1) T; the target at each place is the token after it.
What is left at the end, less than a window, is dropped, and a note says how much.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.columns import Column, Columns
from curvtool.problem.data.examples import Source
from curvtool.problem.data.files import file_of, is_count, is_text, read_kwargs, unreadable
from curvtool.problem.data.tokenizers import FORMS, tokenizer_of
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import listed

# A character is at least a byte, and may become a token of 8 bytes beside its text.
_WIDENED = 16
_KNOWN: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "tokenizer": (FORMS, is_text),
    "context": ("the number of tokens in a window", is_count),
}
_PARTS = ("tokens", "next")


def open_text(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check the file and its arguments.

    Args:
        spec: the data. Arguments: `tokenizer`, and `context`, the tokens T of a window. The parts
            are "tokens" (the input) and "next" (the target); targets = "tokens" is for a loss that
            looks one ahead itself.
        argument: the path.
        allowance: memory that the text may take.

    Returns:
        What reads and tokenizes it.

    Raises:
        InputError: for arguments that are missing, or parts that a text has not.
    """
    kwargs = read_kwargs(spec, _KNOWN)
    for name, example in (("tokenizer", '"chars"'), ("context", "64")):
        if name not in kwargs:
            raise InputError(
                f"{spec.origin.label}: expected {name} for text:, {_KNOWN[name][0]}; it is not "
                f"set. Add {name} = {example} to kwargs under [data], or --data-kwargs {name}=..."
            )
    for name in (*(spec.inputs or ()), *([spec.targets] if spec.targets else [])):
        if name not in _PARTS:
            raise InputError(
                f"{spec.origin.label}: expected the parts {listed(_PARTS)} of text:; got {name!r}. "
                f"Correct inputs or targets under [data]."
            )
    if spec.weights is not None:
        raise InputError(
            f"{spec.origin.label}: expected no weights for text:, whose tokens all count 1; got "
            f"{spec.weights!r}. Leave weights out."
        )
    path = file_of(spec, argument, "a text")
    return lambda: _read(spec, path, allowance, kwargs)


def _read(spec: DataSpec, path: Path, allowance: Allowance, kwargs: dict[str, Any]) -> Source:
    needed = path.stat().st_size * _WIDENED
    allowance.require(path, needed, "tokens of a text", "Give a part of the text.")
    try:
        # Line ends as they are: a tokenizer sees them.
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, "text in UTF-8", error, "Convert it: iconv -t utf-8.") from error
    base = spec.kwarg_bases.get("tokenizer", spec.origin.base)
    tokenizer = tokenizer_of(str(kwargs["tokenizer"]), base, text, path)
    tokens = tokenizer.encode(text)
    T = int(kwargs["context"])
    parts = (*(spec.inputs or ("tokens",)), spec.targets or "next")
    ahead = int("next" in parts)
    count = (len(tokens) - ahead) // T
    if count < 1:
        raise InputError(
            f"{path}: expected at least {T + ahead} tokens, one window of {T}; the text has "
            f"{len(tokens):,}. Give a longer text, or a smaller context."
        )

    def column(name: str) -> Column:
        start = int(name == "next")
        windows_NT = tokens[start : start + count * T].view(count, T)
        return Column(name, (count, T), lambda first, last: windows_NT[first:last])

    dropped = len(tokens) - ahead - count * T
    note = (
        f"{count:,} windows of {T} tokens without overlap; of {len(tokens):,} tokens the last "
        f"{dropped:,} are dropped"
    )
    notes = [note]
    if tokenizer.vocabulary.guessed:
        notes.append(f"the vocabulary is the {tokenizer.vocabulary.size} characters of this text")
    columns = Columns(tuple(map(column, parts)))
    return Source(spec.source, columns, vocabulary=tokenizer.vocabulary, notes=notes)
