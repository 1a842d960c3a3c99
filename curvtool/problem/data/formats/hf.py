"""`hf:DIR`: what `datasets` wrote by `save_to_disk`, read as the Arrow files that it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.arrow_tables import Chunks, columns_of_table
from curvtool.problem.data.columns import Column
from curvtool.problem.data.examples import Rows, Source
from curvtool.problem.data.files import folder_of, is_text, read_kwargs, unreadable
from curvtool.problem.data.formats.arrow import arrow_chunks
from curvtool.problem.data.pictures import MODE, MODES, decoded
from curvtool.problem.data.tables import table_columns
from curvtool.problem.libraries import library
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean, listed

_WHAT = "a folder that datasets wrote by save_to_disk"
_MOST_JSON = 64 * 2**20
_KNOWN = {**MODE, "split": ("the name of a split", is_text)}


def open_hf(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check that folder and library are there.

    Args:
        spec: the data. Arguments: `split` of a folder that has several; `mode` of pictures, "RGB"
            or "L".
        argument: the folder.
        allowance: memory that record batches may take.

    Returns:
        What maps the Arrow files in it.
    """
    kwargs = read_kwargs(spec, _KNOWN)
    folder = folder_of(spec, argument, _WHAT)
    pyarrow = library("pyarrow", "parquet", spec.source)
    folder = _split(folder, kwargs.get("split"))
    mode = kwargs.get("mode", MODES[0])

    def read() -> Source:
        chunks = arrow_chunks(_files(folder), folder, pyarrow, allowance)
        pictures = _Pictures.of(spec, chunks, mode, pyarrow)
        if pictures is not None:
            return Source(spec.source, Rows(pictures, alone=True))
        return Source(spec.source, columns_of_table(spec, chunks))

    return read


def _split(folder: Path, split: str | None) -> Path:
    listing = folder / "dataset_dict.json"
    if not listing.is_file():
        if split is not None:
            raise InputError(
                f"{folder}: expected several splits, of which one is {split!r}; the folder is one "
                f"dataset. Leave split out."
            )
        return folder
    splits = _json(listing).get("splits")
    if not isinstance(splits, list) or not all(isinstance(s, str) for s in splits):
        raise InputError(f"{listing}: expected a list of splits; got {splits!r}. Save it again.")
    if split not in splits:
        came = "none is named" if split is None else f"there is no {split!r}"
        raise InputError(
            f"{folder}: expected the name of one of the splits {listed(splits)}; {came}."
            f"{did_you_mean(split or '', splits)} Add split = "
            f'"{splits[0] if splits else "train"}" to kwargs under [data], or --data-kwargs '
            f"split=NAME."
        )
    return _inside(folder, str(split))


def _files(folder: Path) -> list[Path]:
    entries = _json(folder / "state.json").get("_data_files")
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f"{folder}: expected {_WHAT}; its state.json names no data files. Save it again."
        )
    names = [e.get("filename") if isinstance(e, Mapping) else None for e in entries]
    return [_inside(folder, name) for name in names]


def _inside(folder: Path, name: object) -> Path:
    """A file of the folder: the files in it name nothing outside it."""
    if not isinstance(name, str) or Path(name).name != name or not (folder / name).exists():
        raise InputError(
            f"{folder}: expected {_WHAT}, with all its files in it; it names {name!r}, which is "
            f"not there. Copy the folder whole."
        )
    return folder / name


def _json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError("larger than such a file is")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, _WHAT, error, "Copy the folder whole, or save it again.") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a table; got {content!r:.40}. Save the dataset again.")
    return content


@final
class _Pictures:
    """Rows whose input is a picture, encoded, and whose target is a number."""

    def __init__(self, pictures: Chunks, name: str, target: Column, mode: str) -> None:
        self._chunks, self._name, self._target, self._mode = pictures, name, target, mode

    @staticmethod
    def of(spec: DataSpec, chunks: Chunks, mode: str, pyarrow: Any) -> _Pictures | None:
        """The rows, where the one input is a struct with the bytes of a picture."""
        names = [str(name) for name in chunks.schema.names]
        chosen = table_columns(spec, chunks.place, names, named=True)
        name = names[chosen.inputs[0]]
        kind = chunks.schema.field(name).type
        if len(chosen.inputs) > 1 or not pyarrow.types.is_struct(kind):
            return None
        if kind.get_field_index("bytes") < 0:
            return None
        if chosen.weights is not None:
            raise InputError(
                f"{chunks.place}: expected numbers as inputs where weights are given; {name!r} "
                f"holds pictures. Leave weights out, or write a hook: --data file.py:dataset."
            )
        target = names[chosen.targets]
        return _Pictures(chunks, name, chunks.column(target, [target]), mode)

    def __len__(self) -> int:
        return self._chunks.starts[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        place = f"{self._chunks.place}, row {index}"
        content = self._chunks.cell(self._name, index)
        picture = content.get("bytes") if isinstance(content, Mapping) else None
        if not isinstance(picture, bytes):
            raise InputError(
                f"{place}: expected the bytes of a picture; got none, and files that the dataset "
                f"names are not followed. Save it with its pictures in it (embed_external_files)."
            )
        return decoded(picture, place, self._mode), self._target.read(index, index + 1)[0]
