"""`file.py:dataset`: what the user's function returns, made sequential and read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from curvtool.errors import CurvtoolError, InputError
from curvtool.problem.data.examples import Finished, InMemory, Rows, Source, as_values
from curvtool.problem.data.repeats import require_repeatable_iterable
from curvtool.problem.hooks import hook_error, load_hook
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import kind_of

_FORMS = (
    "a Dataset, a DataLoader, a tuple or dict of tensors, or an iterable of batches (a list is one)"
)


def open_hook(spec: DataSpec) -> Callable[[], Source]:
    """Import the function; calling what is returned runs it."""
    hook = load_hook("data", spec.source, spec.origin)
    hook.check_kwargs(spec.kwargs, "--data-kwargs")
    return lambda: _source(hook.call(**spec.kwargs), spec.source)


def _source(made: object, label: str) -> Source:
    if isinstance(made, DataLoader):
        return _from_loader(made, label)
    if isinstance(made, TensorDataset):
        return Source(label, InMemory(as_values(made.tensors, label)))
    if isinstance(made, Mapping):
        return Source(label, InMemory(as_values(made, label)))
    if isinstance(made, tuple) and made and all(isinstance(part, Tensor) for part in made):
        return Source(label, InMemory(as_values(made, label)))
    if isinstance(made, IterableDataset):
        return Source(label, Rows(_list(made, label)))
    sized = hasattr(made, "__len__") and hasattr(made, "__getitem__")
    if sized and not isinstance(made, list | tuple | str | bytes | Tensor):
        return Source(label, Rows(made))
    if isinstance(made, Iterable) and not isinstance(made, str | bytes | Tensor):
        return Source(label, _finished(made, label))
    raise InputError(
        f"{label}: expected {_FORMS}; it returned {kind_of(made)}. Return for example "
        f"torch.utils.data.TensorDataset(x, y)."
    )


def _from_loader(loader: DataLoader[Any], label: str) -> Source:
    notes: list[str] = []
    if isinstance(loader.dataset, IterableDataset):
        if loader.batch_size is None:
            return Source(label, _finished(loader, label))
        rows = Rows(_list(loader.dataset, label), loader.collate_fn, loader.batch_size)
        return Source(label, rows)
    batcher = loader.batch_sampler
    sampler = loader.sampler if batcher is None else getattr(batcher, "sampler", None)
    if isinstance(sampler, WeightedRandomSampler):
        raise InputError(
            f"{label}: expected a fixed dataset; the loader draws with a WeightedRandomSampler, "
            f"and another draw is another loss. Return the dataset itself, with the weights in "
            f"the loss."
        )
    plain = batcher is None or type(batcher) is BatchSampler
    dataset: Any = loader.dataset
    if isinstance(sampler, SubsetRandomSampler):
        dataset = Subset(dataset, sorted(int(i) for i in sampler.indices))
    known = isinstance(sampler, RandomSampler | SequentialSampler | SubsetRandomSampler)
    if not (plain and known):
        notes.append(
            f"the loader of {label} has a sampler of its own: its batches were drawn once and kept"
        )
        return Source(label, _finished(loader, label), notes=notes)
    if not isinstance(sampler, SequentialSampler):
        notes.append(f"the shuffling loader of {label} was made sequential")
    if loader.drop_last:
        notes.append(f"drop_last of {label} was undone: the last, short batch belongs to the mean")
    if loader.batch_size is None:
        batches = _Batches(dataset, loader.collate_fn)
        return Source(label, _finished(batches, label), notes=notes)
    if isinstance(dataset, TensorDataset) and loader.collate_fn is default_collate:
        whole = InMemory(as_values(dataset.tensors, label), loader.batch_size)
        return Source(label, whole, notes=notes)
    return Source(label, Rows(dataset, loader.collate_fn, loader.batch_size), notes=notes)


class _Batches:
    """The batches that a dataset gives by index, in the order of the indices."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._collate = collate

    def __iter__(self) -> Iterator[Any]:
        return (self._collate(self._dataset[i]) for i in range(len(self._dataset)))


def _finished(batches: Iterable[Any], label: str) -> Finished:
    return Finished([as_values(batch, label) for batch in _list(batches, label)])


def _list(items: Iterable[Any], label: str) -> list[Any]:
    try:
        read = list(items)
        require_repeatable_iterable(read, items, label)
    except CurvtoolError:
        raise
    except Exception as error:
        raise hook_error(label, error) from error
    return read
