"""The flat vector: every chosen tensor once, in its order, and a sentence for the others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from curvtool.errors import ExitCode, InputError
from curvtool.problem.models import gpt, mlp
from curvtool.problem.parameters import MOST_NAMES, ParameterLayout, lay_out
from curvtool.problem.wording import listed

SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=3).map(torch.Size), min_size=1, max_size=6)


def layout_of(shapes: list[torch.Size]) -> ParameterLayout:
    return ParameterLayout(
        names=tuple(f"p{i}" for i in range(len(shapes))),
        shapes=tuple(shapes),
        sizes=tuple(s.numel() for s in shapes),
    )


@given(shapes=SHAPES)
def test_join_undoes_split_and_split_copies_nothing(shapes: list[torch.Size]) -> None:
    layout = layout_of(shapes)
    v_P = torch.arange(layout.size, dtype=torch.float64)
    pieces = layout.split(v_P)
    assert [p.shape for p in pieces] == shapes
    joined = layout.join(pieces)
    assert torch.equal(joined, v_P)
    joined.fill_(-1)
    assert torch.equal(v_P, torch.arange(layout.size, dtype=torch.float64))
    for piece in pieces:
        piece.fill_(-1)
    assert bool((v_P == -1).all())


@given(shapes=SHAPES)
def test_offsets_are_where_the_pieces_begin(shapes: list[torch.Size]) -> None:
    layout = layout_of(shapes)
    v_P = torch.arange(layout.size, dtype=torch.float64)
    for piece, offset, size in zip(layout.split(v_P), layout.offsets, layout.sizes, strict=True):
        assert torch.equal(piece.flatten(), v_P[offset : offset + size])


@given(shapes=SHAPES, step=st.integers(2, 4))
def test_a_strided_vector_splits_as_well(shapes: list[torch.Size], step: int) -> None:
    layout = layout_of(shapes)
    wide = torch.arange(layout.size * step, dtype=torch.float64)
    assert torch.equal(layout.join(layout.split(wide[::step])), wide[::step])


def test_the_order_is_that_of_named_parameters() -> None:
    module = mlp(sizes=[3, 4, 2])
    layout, parameters, notes = lay_out(module)
    assert layout.names == tuple(name for name, _ in module.named_parameters())
    assert all(a is b for a, b in zip(parameters, module.parameters(), strict=True))
    assert layout.size == sum(p.numel() for p in module.parameters())
    assert notes == []


def test_a_tied_parameter_appears_once_under_its_first_name() -> None:
    module = gpt(vocab_size=5, context=3, width=4, layers=1, heads=2, tied=True)
    layout, parameters, notes = lay_out(module)
    assert "token_embedding.weight" in layout.names
    assert "head.weight" not in layout.names
    assert len({id(p) for p in parameters}) == len(parameters)
    assert notes == ["Tied parameters are counted once: head.weight = token_embedding.weight."]


def test_frozen_parameters_stay_out_and_are_named() -> None:
    module = mlp(sizes=[3, 4, 2])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("bias" not in name)
    layout, _, notes = lay_out(module)
    assert layout.names == ("layers.0.weight", "layers.1.weight")
    assert notes == ["2 frozen parameter tensors not differentiated: layers.0.bias, layers.1.bias."]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["layers.0.*"], ("layers.0.weight", "layers.0.bias")),
        (["*.bias"], ("layers.0.bias", "layers.1.bias")),
        (["layers.[0]*", "*weight"], ("layers.0.weight", "layers.0.bias", "layers.1.weight")),
    ],
)
def test_patterns_choose_a_block_and_the_note_says_so(
    patterns: list[str], names: tuple[str, ...]
) -> None:
    layout, _, notes = lay_out(mlp(sizes=[3, 4, 2]), patterns)
    assert layout.names == names
    assert notes == [f"H is a block: --params keeps {len(names)} of 4 tensors."]


def test_nothing_to_differentiate_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"4 are left out .* layers\.0\.weight") as caught:
        lay_out(mlp(sizes=[3, 4, 2]), ["head.*"])
    assert caught.value.exit_code is ExitCode.UNUSABLE_INPUT
    frozen = mlp(sizes=[3, 2]).requires_grad_(False)
    with pytest.raises(InputError, match="2 are frozen"):
        lay_out(frozen)
    with pytest.raises(InputError, match="none at all"):
        lay_out(nn.Tanh())


@given(count=st.integers(1, 12))
def test_some_names_are_shown_and_the_others_counted(count: int) -> None:
    text = listed([f"n{i}" for i in range(count)], most=MOST_NAMES)
    assert text.count("n") - text.count("and") == min(count, 4)
    assert (f"and {count - 4} more" in text) == (count > 4)
