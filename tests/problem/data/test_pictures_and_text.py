"""Pictures in folders, tars and Hugging Face folders; text in windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from curvtool.problem.data import resolve_data
from curvtool.problem.data.examples import Vocabulary
from curvtool.problem.stored import StoredBatch
from curvtool.problem.vocabulary import vocabulary_notes
from tests.problem.data.making import png, read, spec, tar, tensors
from tests.problem.sentences import refusal

PIXELS = np.random.default_rng(2).integers(0, 256, (6, 5, 4, 3)).astype("u1")
UNIT = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
CLASSES = torch.tensor([0, 0, 0, 1, 1, 1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    members: dict[str, Any] = {}
    for i, pixels in enumerate(PIXELS):
        place = tmp_path / "pictures" / ("cats", "dogs")[int(CLASSES[i])]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(png(pixels))
        members[f"{i:03}.png"] = png(pixels)
        members[f"{i:03}.cls"] = str(int(CLASSES[i])).encode()
        members[f"{i:03}.json"] = json.dumps([i, 2.5]).encode()
    tar(tmp_path / "s-000.tar", dict(list(members.items())[:6]))
    tar(tmp_path / "s-001.tar", dict(list(members.items())[6:]))
    return tmp_path


@pytest.mark.parametrize(
    "source", ["imagefolder:pictures", "webdataset:s-*.tar", "webdataset:s-{000..001}.tar"]
)
@pytest.mark.parametrize("kept", [True, False])
def test_pictures_are_read_in_order(
    source: str, kept: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr("curvtool.problem.data.allowance._KEPT", 2000)
    made = read(spec(folder, source), size=4, memory=10**6)
    assert all(isinstance(b, StoredBatch) != kept for b in made.batches)
    x, y = tensors(made)
    assert torch.equal(x, UNIT)
    assert torch.equal(y, CLASSES)
    assert [b.examples for b in made.batches] == [4, 2]


def test_a_subset_reads_no_other_pictures(folder: Path) -> None:
    drawn = torch.randperm(6, generator=torch.Generator().manual_seed(0))[:2].sort().values
    for i in set(range(6)) - set(drawn.tolist()):
        next((folder / "pictures").glob(f"*/{i}.png")).write_bytes(b"unread")
    x, _ = tensors(read(spec(folder, "imagefolder:pictures"), most=2))
    assert torch.equal(x, UNIT[drawn])
    refusal(
        lambda: read(spec(folder, "imagefolder:pictures")), came="a picture", remedy="whole on disk"
    )


def test_pictures_of_several_sizes_are_resized_before_they_join(folder: Path) -> None:
    (folder / "pictures" / "cats" / "0.png").write_bytes(png(PIXELS[0][:3]))
    data = spec(folder, "imagefolder:pictures")
    refusal(lambda: read(data), came="equal size", remedy='name = "resize"')
    resized = spec(
        folder, "imagefolder:pictures", transforms=({"name": "resize", "size": [5, 4]}, "grayscale")
    )
    assert tensors(read(resized))[0].shape == (6, 1, 5, 4)


def test_grey_pictures_have_one_channel_where_asked(folder: Path) -> None:
    from PIL import Image

    grey = [np.asarray(Image.fromarray(p).convert("L")) for p in PIXELS]
    for source in ("imagefolder:pictures", "webdataset:s-*.tar"):
        x, _ = tensors(read(spec(folder, source, kwargs={"mode": "L"})))
        assert torch.equal(x[:, 0], torch.from_numpy(np.stack(grey)).float() / 255)


def test_members_are_named_by_their_endings(folder: Path) -> None:
    named = spec(folder, "webdataset:s-*.tar", inputs=("json",), targets="cls")
    assert tensors(read(named))[0].tolist() == [[i, 2.5] for i in range(6)]


@pytest.mark.parametrize(
    ("members", "parts", "came", "remedy"),
    [
        ({"a.cls": b"1"}, {}, "end in cls", "inputs="),
        ({"a.pth": b"", "a.cls": b"1"}, {"inputs": ("pth",)}, "loading one runs", ".npy"),
        ({"a.json": b"{}", "a.cls": b"1"}, {"inputs": ("json",)}, "Python objects", "numeric"),
        ({"a.json": b"[", "a.cls": b"1"}, {"inputs": ("json",)}, "numbers", "again"),
        ({"a.json": b"1", "b.cls": b"1"}, {"inputs": ("json",)}, "'a' has no .cls", "again"),
        ({}, {}, "nothing", "inputs="),
    ],
)
def test_shards_that_cannot_be_used(
    members: dict[str, Any], parts: dict[str, Any], came: str, remedy: str, tmp_path: Path
) -> None:
    tar(tmp_path / "d.tar", members)
    refusal(lambda: read(spec(tmp_path, "webdataset:d.tar", **parts)), came=came, remedy=remedy)


def test_what_datasets_saves_is_read(folder: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")
    made = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(p), "path": None} for p in PIXELS], "label": CLASSES.tolist()},
        features=datasets.Features({
            "image": datasets.Image(),
            "label": datasets.ClassLabel(num_classes=2),
        }),
    )
    split = datasets.DatasetDict({"train": made, "test": made.select([5])})
    split.save_to_disk(str(folder / "hf"))
    for name, rows in (("train", list(range(6))), ("test", [5])):
        kwargs = {"split": name}
        data = spec(folder, "hf:hf", inputs=("image",), targets="label", kwargs=kwargs)
        x, y = tensors(read(data))
        assert torch.equal(x, UNIT[rows])
        assert torch.equal(y, CLASSES[rows])
    data = spec(folder, "hf:hf", targets="label")
    refusal(lambda: read(data), came="train, test", remedy="split=NAME")


# text

TEXT = "abcab cabba\nbacab"


def text(folder: Path, tokenizer: str, context: int = 4, **parts: Any) -> Any:
    (folder / "t.txt").write_bytes(TEXT.encode())
    kwargs = {"tokenizer": tokenizer, "context": context}
    return spec(folder, "text:t.txt", kwargs=kwargs, **parts)


@pytest.mark.parametrize("tokenizer", ["chars", "chars:\n abc", "chars-file:v.txt", "bytes"])
def test_text_comes_in_windows_without_overlap(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("\n abc")
    made = read(text(tmp_path, tokenizer))
    x, y = tensors(made)
    letters = "".join(map(chr, range(256))) if tokenizer == "bytes" else "\n abc"
    spelled = ["".join(letters[i] for i in window) for window in x]
    assert spelled == [TEXT[i : i + 4] for i in range(0, 16, 4)]
    assert ["".join(letters[i] for i in w) for w in y] == [
        TEXT[i + 1 : i + 5] for i in range(0, 16, 4)
    ]
    assert made.notes[:1] == [
        "4 windows of 4 tokens without overlap; of 17 tokens the last 0 are dropped"
    ]


def test_a_loss_that_looks_ahead_itself_gets_the_tokens(tmp_path: Path) -> None:
    x, y = tensors(read(text(tmp_path, "chars", 5, targets="tokens")))
    assert x.shape == (3, 5)
    assert torch.equal(x, y)


def test_a_tokenizer_of_the_hugging_face_kind(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the library is not installed")
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"abcab": 0, "cabba": 1, "bacab": 2, "?": 3}, unk_token="?")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (tmp_path / "folder").mkdir()
    made.save(str(tmp_path / "folder" / "tokenizer.json"))
    for name in ("hf:folder", "folder/tokenizer.json"):
        x, y = tensors(read(text(tmp_path, name, 2)))
        assert (x.tolist(), y.tolist()) == ([[0, 1]], [[1, 2]])
    (tmp_path / "folder" / "tokenizer.json").write_text("{")
    refusal(lambda: read(text(tmp_path, "hf:folder")), came="tokenizer.json", remedy="Copy")


@pytest.mark.parametrize(
    ("tokenizer", "context", "came", "remedy"),
    [
        ("chars:abc", 4, "'\\n' is not among its 3", "chars:..."),
        ("chars:aab", 4, "'a' is there 2 times", "Correct tokenizer"),
        ("chars", 17, "the text has 17", "smaller context"),
        ("words", 4, "'words'", "Correct tokenizer"),
        ("chars-file:none", 4, "No such file", "Correct tokenizer"),
        ("hf:none", 4, "there is none", "nothing is downloaded"),
        ("chars", 0, "got 0", "--data-kwargs"),
    ],
)
def test_texts_that_cannot_be_used(
    tokenizer: str, context: int, came: str, remedy: str, tmp_path: Path
) -> None:
    refusal(lambda: read(text(tmp_path, tokenizer, context)), came=came, remedy=remedy)


def test_what_a_text_needs_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(TEXT)
    lacking = spec(tmp_path, "text:t.txt", kwargs={"tokenizer": "chars"})
    refusal(lambda: resolve_data(lacking), came="context", remedy="--data-kwargs context=")
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe")
    data = spec(tmp_path, "text:t.txt", kwargs={"tokenizer": "chars", "context": 1})
    refusal(lambda: read(data), came="UTF-8", remedy="iconv")


def test_a_vocabulary_is_held_against_the_model() -> None:
    model = nn.Sequential(nn.Embedding(5, 2))
    assert vocabulary_notes(model, None) == vocabulary_notes(model, Vocabulary("chars:x", 5)) == []
    assert "5 rows" in vocabulary_notes(model, Vocabulary("hf:dir", 4))[0]
    for vocabulary in (Vocabulary("hf:dir", 6), Vocabulary("chars", 4, guessed=True)):
        refusal(
            lambda v=vocabulary: vocabulary_notes(model, v),  # type: ignore[misc]
            came=f"it has {vocabulary.size}",
            remedy="the model was trained with",
        )
