"""Datasets: read whole, in a fixed order, the same whatever the batch size."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curvtool.errors import ExitCode, HookError, PreflightError
from curvtool.problem.batch import BatchValues
from curvtool.problem.data import Batches, make_batches, resolve_data
from curvtool.problem.data.examples import InMemory, Source
from curvtool.problem.seeding import seeded
from curvtool.problem.spec import DataSpec, Origin
from tests.problem.sentences import refusal

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)

HOOKS = """
import torch
from torch.utils.data import *
X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)
class Rows(Dataset):
    def __len__(self): return 10
    def __getitem__(self, i): return {"x": X[i], "y": Y[i]}
class Stream(IterableDataset):
    def __iter__(self): return zip(X, Y)
def tensors(): return X, Y
def tensor_dataset(): return TensorDataset(X, Y)
def triples(): return TensorDataset(X, X, Y)
def mapping(): return {"x": X, "y": Y}
def rows(): return Rows()
def stream(): return Stream()
def subset(): return Subset(TensorDataset(X, Y), range(10))
def shuffled(drop_last=False):
    return DataLoader(TensorDataset(X, Y), 4, shuffle=True, drop_last=drop_last)
def shuffled_rows(): return DataLoader(Rows(), batch_size=3, shuffle=True)
def collated():
    return DataLoader(Rows(), 3, shuffle=True, collate_fn=lambda r: (r[0]["x"], len(r)))
def stream_loader(): return DataLoader(Stream(), batch_size=4)
def whole_batches(): return DataLoader([(X[:7], Y[:7]), (X[7:], Y[7:])], batch_size=None)
def subset_sampler():
    return DataLoader(TensorDataset(X, Y), 4, sampler=SubsetRandomSampler([8, 2, 5]))
def weighted():
    return DataLoader(TensorDataset(X, Y), 4, sampler=WeightedRandomSampler([1.0] * 10, 10))
def own_sampler(): return DataLoader(TensorDataset(X, Y), 4, sampler=[3, 1, 2])
def generator():
    yield X[:7], Y[:7]
    yield X[7:], Y[7:]
def batches(): return [(X[:7], Y[:7]), (X[7:], Y[7:])]
def arrays(): return [(X[:7].numpy(), 3)]
class Augmented(Rows):
    def __getitem__(self, i): return X[i] + torch.rand(()).round(), Y[i]
class Single(Augmented):
    def __len__(self): return 1
class Drawing(IterableDataset):
    def __iter__(self): return ((X[i], Y[i]) for i in torch.randperm(10))
class Once(IterableDataset):
    def __init__(self): self.rows = zip(X, Y)
    def __iter__(self): return self.rows
class Mixing:
    def __iter__(self): return iter([(X[torch.randperm(10)], Y)])
class Holes(Rows):
    def __getitem__(self, i): return X[i] * float("nan"), Y[i]
def augmented(): return Augmented()
def single(): return Single()
def drawing(): return Drawing()
def drawing_loader(): return DataLoader(Drawing(), batch_size=4)
def mixing(): return Mixing()
def mixing_collate():
    return DataLoader(Rows(), 5, collate_fn=lambda r: (torch.randn(len(r), 3), Y[: len(r)]))
class Sampler:
    def __len__(self): return 10
    def __iter__(self): return iter(torch.randperm(10).tolist())
def drawing_sampler(): return DataLoader(TensorDataset(X, Y), 10, sampler=Sampler())
def once(): return Once()
def holes(): return Holes()
def empty(): return TensorDataset(X[:0], Y[:0])
def no_batches(): return iter(())
def unequal(): return X, Y[:9]
def number(): return 3
def strings(): return [{"text": ["a", "b"], "y": Y[:2]}]
def ragged(): return Ragged()
class Ragged(Rows):
    def __getitem__(self, i): return X[i][: 1 + i % 2], 0
def raising():
    yield X, Y
    raise RuntimeError("the disk is gone")
class Raising(Rows):
    def __getitem__(self, i): raise KeyError("row")
def raising_rows(): return Raising()
def raising_collate(): return DataLoader(Rows(), 3, collate_fn=lambda r: 1 / 0)
def noisy():
    import random
    import numpy as np
    return torch.randn(4, 1), torch.tensor([random.random(), np.random.rand()] * 2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "d.py").write_text(HOOKS)
    return folder


def spec(folder: Path, source: str, *, trusted: bool = True, **parts: object) -> DataSpec:
    origin = Origin("lab.toml", folder, trusted)
    return DataSpec(source, origin, **parts)  # type: ignore[arg-type]


def batches(
    data: DataSpec, *, size: int | None = None, most: int | None = None, seed: int = 0
) -> Batches:
    with seeded(0):
        source = resolve_data(data)()
        return make_batches(source, batch_size=size, max_examples=most, seed=seed)


def tensors(values: BatchValues) -> list[Tensor]:
    return list(values.values()) if isinstance(values, Mapping) else list(values)


def whole(made: Batches) -> list[Tensor]:
    columns = zip(*(tensors(batch.fetched().values) for batch in made.batches), strict=True)
    return [torch.cat(column) for column in columns]


def sizes(made: Batches) -> list[int]:
    return [batch.examples for batch in made.batches]


MAP_STYLE = ["tensors", "tensor_dataset", "mapping", "rows", "stream", "subset", "shuffled"]
MAP_STYLE += ["shuffled_rows", "stream_loader"]


@pytest.mark.parametrize("size", [3, 10, 64])
@pytest.mark.parametrize("hook", MAP_STYLE)
def test_every_form_gives_all_examples_in_order(hook: str, size: int, folder: Path) -> None:
    made = batches(spec(folder, f"d.py:{hook}"), size=size)
    x, y = whole(made)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert sizes(made) == [size] * (10 // size) + [10 % size] * (10 % size > 0)


@pytest.mark.parametrize("hook", ["generator", "batches", "whole_batches"])
def test_finished_batches_keep_their_size_and_say_so(hook: str, folder: Path) -> None:
    made = batches(spec(folder, f"d.py:{hook}"), size=2)
    assert sizes(made) == [7, 3]
    assert torch.equal(whole(made)[0], X)
    assert any("--batch-size 2 does not apply" in note for note in made.notes)


def test_the_batch_size_is_asked_for_then_the_specs_then_the_loaders(folder: Path) -> None:
    source = resolve_data(spec(folder, "d.py:shuffled"))()
    assert sizes(make_batches(source, batch_size=3, default_batch_size=5))[0] == 3
    assert sizes(make_batches(source, batch_size=None, default_batch_size=5))[0] == 5
    assert sizes(make_batches(source, batch_size=None))[0] == 4
    assert sizes(batches(spec(folder, "d.py:tensors"))) == [10]


def test_what_a_loader_did_is_undone_and_noted(folder: Path) -> None:
    made = batches(spec(folder, "d.py:shuffled", kwargs={"drop_last": True}))
    assert sizes(made) == [4, 4, 2]
    assert any("sequential" in note for note in made.notes)
    assert any("drop_last" in note for note in made.notes)
    assert torch.equal(whole(batches(spec(folder, "d.py:subset_sampler")))[1], Y[[2, 5, 8]])
    own = batches(spec(folder, "d.py:own_sampler"))
    assert torch.equal(whole(own)[1], Y[[3, 1, 2]])
    assert any("drawn once" in note for note in own.notes)
    collated = batches(spec(folder, "d.py:collated"))
    assert [int(tensors(b.fetched().values)[1]) for b in collated.batches] == [3, 3, 3, 1]


def test_a_row_may_hold_any_number_of_tensors(folder: Path) -> None:
    assert len(whole(batches(spec(folder, "d.py:triples"), size=3))) == 3
    values = batches(spec(folder, "d.py:rows"), size=3).batches[0].fetched().values
    assert isinstance(values, Mapping)
    assert list(values) == ["x", "y"]


@pytest.mark.parametrize(
    "hook",
    [
        *("augmented", "single", "drawing", "drawing_loader", "mixing", "mixing_collate"),
        "drawing_sampler",
    ],
)
def test_examples_that_are_drawn_anew_are_refused(hook: str, folder: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        batches(spec(folder, f"d.py:{hook}"))
    assert caught.value.exit_code is ExitCode.NOT_A_HESSIAN
    assert f"d.py:{hook}: expected" in str(caught.value)
    assert "shuffle=False" in str(caught.value)


@pytest.mark.parametrize("hook", ["once", "generator", "holes", "shuffled_rows", "own_sampler"])
def test_examples_that_stay_are_not(hook: str, folder: Path) -> None:
    # What can be read only once, NaN that is like NaN, and shuffling that was undone.
    assert batches(spec(folder, f"d.py:{hook}")).batches


def test_numbers_and_arrays_count_as_tensors(folder: Path) -> None:
    (batch,) = batches(spec(folder, "d.py:arrays")).batches
    assert [t.dtype for t in tensors(batch.fetched().values)] == [torch.float32, torch.int64]


@pytest.mark.parametrize(
    ("hook", "came", "remedy"),
    [
        ("empty", "the dataset is empty", "Check its path"),
        ("no_batches", "the dataset is empty", "Check its path"),
        ("unequal", "(10, 2), (9,)", "same examples"),
        ("number", "returned int", "TensorDataset(x, y)"),
        ("strings", '"text" is list of 2', "leave it out"),
        ("ragged", "stack expects each tensor to be equal size", "collate_fn"),
        ("weighted", "WeightedRandomSampler", "weights in the loss"),
        ("dataste", "it has", 'Did you mean "'),
    ],
)
def test_hooks_whose_data_cannot_be_used(hook: str, came: str, remedy: str, folder: Path) -> None:
    refusal(lambda: batches(spec(folder, f"d.py:{hook}")), came=came, remedy=remedy)


@pytest.mark.parametrize(
    ("hook", "cause"),
    [
        ("raising", RuntimeError),
        ("raising_rows", KeyError),
        ("raising_collate", ZeroDivisionError),
    ],
)
def test_what_the_users_data_raises_is_kept(
    hook: str, cause: type[Exception], folder: Path
) -> None:
    with pytest.raises(HookError) as caught:
        batches(spec(folder, f"d.py:{hook}"))
    assert isinstance(caught.value.__cause__, cause)


def test_random_data_are_the_same_each_time_and_global_seeds_untouched(folder: Path) -> None:
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    first, second = (batches(spec(folder, "d.py:noisy")) for _ in range(2))
    assert first.sha256 == second.sha256
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), str(np.random.get_state()))


@pytest.mark.parametrize("hook", ["tensors", "rows", "generator"])
def test_max_examples_takes_a_seeded_subset_in_order(hook: str, folder: Path) -> None:
    data = spec(folder, f"d.py:{hook}")
    made = batches(data, most=6)
    y = whole(made)[1]
    assert len(y) == 6
    assert torch.equal(y, y.sort().values)
    assert torch.equal(whole(made)[0], X[y])
    assert torch.equal(y, whole(batches(data, most=6))[1])
    assert not torch.equal(y, whole(batches(data, most=6, seed=1))[1])
    assert any("6 of 10 examples (seed 0)" in note for note in made.notes)
    assert not any("subset" in note for note in batches(data, most=10).notes)


@settings(deadline=None)
@given(
    examples=st.integers(1, 30),
    first=st.integers(1, 40),
    second=st.integers(1, 40),
    most=st.integers(1, 40) | st.none(),
)
def test_examples_and_hash_do_not_depend_on_the_batch_size(
    examples: int, first: int, second: int, most: int | None
) -> None:
    values = (torch.arange(3.0 * examples).reshape(examples, 3), torch.arange(examples))
    source = Source("d", InMemory(values))
    one, other = (
        make_batches(source, batch_size=size, max_examples=most) for size in (first, second)
    )
    assert one.sha256 == other.sha256
    assert all(torch.equal(a, b) for a, b in zip(whole(one), whole(other), strict=True))
    assert sum(sizes(one)) == min(examples, most or examples)


def test_the_hash_sees_values_dtypes_and_places() -> None:
    def sha256(*values: Tensor) -> str:
        return make_batches(Source("d", InMemory(values)), batch_size=2).sha256

    zeros = torch.zeros(3, 1)
    hashes = [sha256(zeros, zeros), sha256(zeros, zeros + 1), sha256(zeros + 1, zeros)]
    hashes += [sha256(zeros.int(), zeros), sha256(zeros.bfloat16(), zeros), sha256(zeros)]
    assert len(set(hashes)) == len(hashes)


def test_tensors_in_memory_are_not_copied() -> None:
    made = make_batches(Source("d", InMemory((X, Y))), batch_size=4)
    batch = tensors(made.batches[1].fetched().values)[0]
    assert batch.untyped_storage().data_ptr() == X.untyped_storage().data_ptr()


# npz


def npz(folder: Path, **arrays: object) -> Path:
    path = folder / "d.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_npz_takes_x_and_y_or_the_names_given(tmp_path: Path) -> None:
    npz(tmp_path, x=np.ones((3, 2), "f4"), y=np.arange(3, dtype="u1"), z=np.ones(3, bool))
    x, y = whole(batches(spec(tmp_path, "npz:d.npz")))
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    named = spec(tmp_path, "npz:d.npz", inputs=("y", "x"), targets="z")
    assert [t.dtype for t in whole(batches(named))] == [torch.int64, torch.float32, torch.bool]


def test_npz_reads_foreign_byte_orders_and_half_precision(tmp_path: Path) -> None:
    npz(tmp_path, x=np.arange(3, dtype=">f8"), y=np.arange(3, dtype="f2"))
    x, y = whole(batches(spec(tmp_path, "npz:d.npz")))
    assert x.tolist() == y.tolist() == [0, 1, 2]
    assert (x.dtype, y.dtype) == (torch.float64, torch.float16)


ONES = np.ones(3)


@pytest.mark.parametrize(
    ("arrays", "parts", "came", "remedy"),
    [
        ({"a": ONES, "b": ONES}, {}, "the file has a, b", 'inputs = "NAME"'),
        ({"x": ONES, "b": ONES}, {}, "the file has x, b", "--data-kwargs targets=NAME"),
        ({"x": ONES, "label": ONES}, {"targets": "lable"}, "label", 'Did you mean "label"?'),
        ({"x": ONES, "y": np.ones(4)}, {}, "x (3,), y (4,)", "same examples"),
        ({"x": np.ones(()), "y": np.ones(())}, {}, "x ()", "same examples"),
        ({"x": np.array([1, np.nan, np.inf]), "y": ONES}, {}, "2 NaN or infinite of 3", "Clean"),
        ({"x": np.array([1, "a", None], object), "y": ONES}, {}, "Python objects", "numeric"),
        ({"x": np.array(["a", "b", "c"]), "y": ONES}, {}, "<U1", "Convert"),
        ({"x": np.ones(3, complex), "y": ONES}, {}, "complex128", "Convert"),
        ({"x": np.full(3, 2**63, "u8"), "y": ONES}, {}, "9223372036854775808", "smaller"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, {}, "the dataset is empty", "Check its path"),
        ({"x": ONES, "y": ONES}, {"kwargs": {"inputz": "x"}}, "got inputz", "--data-kwargs"),
    ],
)
def test_npz_files_that_cannot_be_used(
    arrays: dict[str, object], parts: dict[str, Any], came: str, remedy: str, tmp_path: Path
) -> None:
    npz(tmp_path, **arrays)
    refusal(lambda: batches(spec(tmp_path, "npz:d.npz", **parts)), came=came, remedy=remedy)


def test_npz_files_that_are_none(tmp_path: Path) -> None:
    path = npz(tmp_path, x=ONES, y=ONES)
    data = spec(tmp_path, "npz:d.npz")
    content = path.read_bytes()
    path.write_bytes(b"")
    refusal(lambda: batches(data), came="the file is empty (0 bytes)", remedy="write it again")
    for cut in (1, 10, len(content) - 30):
        path.write_bytes(content[:cut])
        refusal(lambda: batches(data), came="cannot be read", remedy="np.savez")
    path.write_bytes(content.replace(np.float64(1).tobytes(), np.float64(2).tobytes()))
    refusal(lambda: batches(data), came="CRC", remedy="np.savez")
    np.save(tmp_path / "one.npy", ONES)
    path.write_bytes((tmp_path / "one.npy").read_bytes())
    refusal(lambda: batches(data), came="one bare array", remedy="np.savez")
    path.unlink()
    npz(tmp_path / "..", x=ONES)
    refusal(lambda: resolve_data(data), came="no such file", remedy="relative to")


@pytest.mark.parametrize(
    ("source", "came", "remedy"),
    [
        ("npyy:a.npy", "no module 'npyy'", 'Did you mean "npy"?'),
        ("npzz", "'npzz'", 'Did you mean "npz"?'),
        ("digits.npz", "'digits.npz'", 'Did you mean "npz:digits.npz"?'),
        ("table.tsv.gz", "'table.tsv.gz'", 'Did you mean "csv:table.tsv.gz"?'),
        ("csv:a.csv", "no such file", "relative to"),
        ("torchvision:CIFAR01", "'CIFAR01'", 'Did you mean "CIFAR10'),
    ],
)
def test_sources_that_are_not_known(source: str, came: str, remedy: str, tmp_path: Path) -> None:
    refusal(lambda: resolve_data(spec(tmp_path, source)), came=came, remedy=remedy)


# torchvision


def test_torchvision_images_become_tensors(tmp_path: Path) -> None:
    kwargs = {"size": 5, "image_size": [3, 4, 4], "num_classes": 7}
    made = batches(spec(tmp_path, "torchvision:FakeData", kwargs=kwargs), size=2)
    images, labels = whole(made)
    assert images.shape == (5, 3, 4, 4)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert labels.dtype == torch.int64
    assert sizes(made) == [2, 2, 1]


def test_torchvision_downloads_nothing_unasked(tmp_path: Path) -> None:
    data = spec(tmp_path, "torchvision:MNIST", kwargs={"root": "here"})
    refusal(lambda: batches(data), came="Dataset not found", remedy="--download")
    assert not any(tmp_path.rglob("*.gz"))


def test_torchvision_roots_are_relative_to_who_named_them(tmp_path: Path) -> None:
    from PIL import Image

    for folder in ("cats", "dogs"):
        (tmp_path / "there" / folder).mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(tmp_path / "there" / folder / "a.png")
    data = spec(
        Path("/nowhere"),
        "torchvision:ImageFolder",
        kwargs={"root": "there"},
        kwarg_bases={"root": tmp_path},
    )
    assert whole(batches(data))[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("source", "kwargs", "came", "remedy"),
    [
        ("MNIST", {}, '"root" is missing', "root = "),
        ("MNIST", {"root": ".", "trian": True}, 'no argument "trian"', '"train"?'),
        ("MNIST", {"root": ".", "transform": "x"}, "no transform", "--data file.py:dataset"),
        ("FakeData", {"size": 3, "num_classes": 0}, "reading one raised", "whole on disk"),
        ("FakeData", {"size": 0}, "the dataset is empty", "Check its path"),
    ],
)
def test_torchvision_data_that_cannot_be_used(
    source: str, kwargs: dict[str, object], came: str, remedy: str, tmp_path: Path
) -> None:
    data = spec(tmp_path, f"torchvision:{source}", kwargs=kwargs)
    refusal(lambda: batches(data), came=came, remedy=remedy)


def test_a_dataset_that_unpickles_needs_trust(tmp_path: Path) -> None:
    data = spec(tmp_path, "torchvision:LSUN", trusted=False, kwargs={"root": "."})
    refusal(lambda: batches(data), came="unpickles", remedy="--trust")
