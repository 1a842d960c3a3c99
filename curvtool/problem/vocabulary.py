"""Whether a tokenizer's vocabulary is the model's."""

from __future__ import annotations

from torch import nn

from curvtool.errors import InputError
from curvtool.problem.data.examples import Vocabulary


def vocabulary_notes(module: nn.Module, vocabulary: Vocabulary | None) -> list[str]:
    """Hold the tokenizer against the model's first embedding.

    Args:
        module: the model.
        vocabulary: of the tokenizer that made the data, where one did.

    Returns:
        A sentence where the model has rows to spare, as vocabularies are padded.

    Raises:
        InputError: for more tokens than rows; or other rows, where the vocabulary is a guess.
    """
    if vocabulary is None:
        return []
    embeddings = (
        (name, part) for name, part in module.named_modules() if isinstance(part, nn.Embedding)
    )
    name, embedding = next(embeddings, ("", None))
    if embedding is None or vocabulary.size == embedding.num_embeddings:
        return []
    rows = embedding.num_embeddings
    if vocabulary.size > rows or vocabulary.guessed:
        guess = (
            " Give the characters that the model was trained with, in their order: "
            'tokenizer = "chars:...".'
            if vocabulary.guessed
            else " Give the tokenizer that the model was trained with."
        )
        raise InputError(
            f"tokenizer = {vocabulary.label!r}: expected a vocabulary of {rows:,} tokens, the rows "
            f"of {name}; it has {vocabulary.size:,}.{guess}"
        )
    return [f"the tokenizer has {vocabulary.size:,} tokens, and {name} of the model {rows:,} rows"]
