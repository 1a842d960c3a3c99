"""SHA-256 of everything that a run file holds, in its attribute `digests`, written last.

HDF5 notices a file that is cut short and, with checksums, flipped bits; neither notices a value
that was written over. What is digested is the dtype, the shape and the bytes of a dataset in row
order (of texts: UTF-8, each ended by a NUL), and likewise of each attribute of the file and its
groups. An axis without values has no bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from curvtool.storage import strictjson

NAME = "digests"
# A dataset that is written by rows is digested meanwhile, and carries the digest until the end.
_CARRIED = "sha256"
_PART_BYTES = 4 * 2**20


def write_digests(file: Any) -> None:
    """Digest all datasets and attributes of a file; what is written later is not in it.

    Long datasets are read in parts of a few MiB, those filled by `fill_rows` not at all.

    Args:
        file: open `h5py.File`.
    """
    if NAME in file.attrs:
        del file.attrs[NAME]
    datasets, attributes = _contents(file)
    digests: dict[str, dict[str, str]] = {
        "datasets": {},
        "attributes": {name: _of_attribute(value) for name, value in attributes.items()},
    }
    for name, dataset in datasets.items():
        digests["datasets"][name] = dataset.attrs.get(_CARRIED) or _of_dataset(dataset)
        if _CARRIED in dataset.attrs:
            del dataset.attrs[_CARRIED]
    file.attrs[NAME] = strictjson.dumps(digests)


def verify_digests(file: Any, *, long: bool = True) -> None:
    """Hold what a file holds against its digests.

    Args:
        file: open `h5py.File`.
        long: whether datasets in chunks are read, too: those as long as the vector of parameters.

    Raises:
        ValueError: names the first dataset or attribute that is missing, or not what was written.
    """
    told = _told(file)
    datasets, attributes = _contents(file)
    _verify_attributes(attributes, told["attributes"])
    for name, digest in told["datasets"].items():
        if name not in datasets:
            raise ValueError(f"its dataset {name} is missing")
        if (long or datasets[name].chunks is None) and _of_dataset(datasets[name]) != digest:
            raise ValueError(f"its dataset {name} is not what was written")


def verify_header(file: Any) -> None:
    """Hold the root attributes of a file against their digests; reads nothing else.

    Args:
        file: open `h5py.File`.

    Raises:
        ValueError: names the first attribute that is missing, or not what was written.
    """
    told = _told(file)["attributes"]
    _verify_attributes(file.attrs, {n: digest for n, digest in told.items() if "/" not in n})


def fill_rows(dataset: Any, rows: Iterable[NDArray[Any]]) -> None:
    """Write a dataset row by row, and digest it meanwhile.

    Args:
        dataset: empty, of two dimensions or more.
        rows: all of them, in order; memory is one of them.
    """
    digest = _begun(dataset.dtype, dataset.shape)
    for i, row in enumerate(rows):
        values = np.asarray(row, dtype=dataset.dtype, order="C")
        dataset[i] = values
        digest.update(values)
    dataset.attrs[_CARRIED] = digest.hexdigest()


def read_long(dataset: Any) -> NDArray[Any]:
    """Read the whole of a dataset that `verify_digests` passes over where it need not be read.

    Args:
        dataset: of an open file.

    Returns:
        Its values.

    Raises:
        ValueError: where they are not what was written.
    """
    values: NDArray[Any] = dataset[...]
    if NAME in dataset.file.attrs:  # not in files of the first schema
        name = dataset.name.removeprefix("/")
        if _of_values(values) != _told(dataset.file)["datasets"][name]:
            raise ValueError(f"its dataset {name} is not what was written")
    return values


def _told(file: Any) -> Any:
    if NAME not in file.attrs:
        raise ValueError(f"its attribute {NAME} is missing")
    return strictjson.loads(file.attrs[NAME])


def _verify_attributes(found: Mapping[str, Any], told: Mapping[str, str]) -> None:
    for name, digest in told.items():
        if name not in found:
            raise ValueError(f"its attribute {name} is missing")
        if _of_attribute(found[name]) != digest:
            raise ValueError(f"its attribute {name} is not what was written")


def _contents(file: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """All datasets, and the attributes of the file and its groups; a dataset's only describe it."""
    datasets: dict[str, Any] = {}
    attributes: dict[str, Any] = {n: value for n, value in file.attrs.items() if n != NAME}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[name] = item
        else:
            attributes.update({f"{name}/{n}": value for n, value in item.attrs.items()})

    file.visititems(visit)
    return datasets, attributes


def _of_attribute(value: Any) -> str:
    return _of_texts([value]) if isinstance(value, str) else _of_values(np.asarray(value))


def _of_dataset(dataset: Any) -> str:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return _of_texts(np.ravel(dataset.asstr()[...]), dataset.shape)
    digest = _begun(dataset.dtype, dataset.shape)
    if dataset.id.get_storage_size():  # an axis without values has nothing to be read
        for part in _parts(dataset):
            digest.update(np.ascontiguousarray(part))
    return str(digest.hexdigest())


def _parts(dataset: Any) -> Iterator[NDArray[Any]]:
    """All values in row order, a few MiB at a time."""
    if dataset.size * dataset.dtype.itemsize <= _PART_BYTES:
        yield dataset[()]
        return
    length = max(1, _PART_BYTES // dataset.dtype.itemsize)
    for row in np.ndindex(dataset.shape[:-1]):
        for begin in range(0, dataset.shape[-1], length):
            yield dataset[(*row, slice(begin, begin + length))]


def _of_values(values: NDArray[Any]) -> str:
    digest = _begun(values.dtype, values.shape)
    digest.update(np.ascontiguousarray(values))
    return str(digest.hexdigest())


def _of_texts(texts: Iterable[str], shape: tuple[int, ...] = ()) -> str:
    digest = _begun("text", shape)
    for text in texts:
        digest.update(str(text).encode("utf-8", "surrogateescape") + b"\0")
    return str(digest.hexdigest())


def _begun(dtype: Any, shape: tuple[int, ...]) -> Any:
    name = dtype if isinstance(dtype, str) else dtype.str
    return hashlib.sha256(f"{name} {tuple(map(int, shape))} ".encode())
