"""`csv:FILE`: a table of numbers as text, comma, tab or semicolon separated, gzipped or not."""

from __future__ import annotations

import csv
import gzip
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, final

import numpy as np

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.columns import Column, Columns
from curvtool.problem.data.examples import Source
from curvtool.problem.data.files import file_of, read_kwargs, unreadable
from curvtool.problem.data.numbers import from_array
from curvtool.problem.data.tables import table_columns
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import first_line

_GZIP = b"\x1f\x8b"
_DELIMITERS = (",", "\t", ";", "|", " ")
# Text of a number is at least a digit and a separator, and becomes 8 bytes.
_WIDENED = 4
_PIECE = 2**20
_KNOWN: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "header": ("true or false", lambda v: isinstance(v, bool)),
    "delimiter": ("one character", lambda v: isinstance(v, str) and len(v) == 1),
}


def open_csv(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check the file and its arguments.

    Args:
        spec: the data. Arguments: `delimiter`, found in the first line where it is not given;
            `header`, whether that line holds names: it does where a cell of it is no number.
        argument: the path.
        allowance: memory that the table may take.

    Returns:
        What reads the columns that are used: whole numbers as int64, others as float64.
    """
    kwargs = read_kwargs(spec, _KNOWN)
    path = file_of(spec, argument, "a table of text (CSV)")
    return lambda: _read(spec, path, allowance, kwargs)


def _read(spec: DataSpec, path: Path, allowance: Allowance, kwargs: dict[str, Any]) -> Source:
    text = _text(path, allowance)
    start = text.readline()
    delimiter = kwargs.get("delimiter") or _delimiter(start)
    cells = next(csv.reader([start], delimiter=delimiter), [])
    header = kwargs.get("header", any(not _is_number(cell) for cell in cells))
    names = [c.strip() for c in cells] if header else [str(i) for i in range(len(cells))]
    if not cells:
        raise InputError(
            f"{path}: expected a table with one example a line; its first line is empty. Check the "
            f"file."
        )
    chosen = table_columns(spec, path, names, named=header)
    table = _Table(path, text, delimiter, header=bool(header))
    inputs = table.column("inputs", chosen.inputs)
    targets = table.column(names[chosen.targets], [chosen.targets], flat=True)
    weights = None
    if chosen.weights is not None:
        weights = table.column(names[chosen.weights], [chosen.weights], flat=True)
    return Source(spec.source, Columns((inputs, targets), weights))


@final
class _Table:
    """The text, parsed once for each group of columns: a group has one type."""

    def __init__(
        self,
        path: Path,
        text: io.TextIOWrapper,
        delimiter: str,
        *,
        header: bool,
    ) -> None:
        self._path, self._text, self._delimiter = path, text, delimiter
        self._skipped = int(header)

    def column(self, name: str, numbers: Sequence[int], *, flat: bool = False) -> Column:
        """Columns of the table as one array; a vector where `flat`."""
        whole = self._parsed(name, numbers, np.int64)
        array = self._parsed(name, numbers, np.float64) if whole is None else whole
        assert array is not None
        array = array[:, 0] if flat else array
        path = self._path
        return Column(
            name, array.shape, lambda start, stop: from_array(array[start:stop], name, path)
        )

    def _parsed(
        self, name: str, numbers: Sequence[int], dtype: type[np.generic]
    ) -> np.ndarray | None:
        """The numbers, or None where they are no whole ones and should be."""
        self._text.seek(0)
        try:
            with warnings.catch_warnings():
                # NumPy reads 1.5 as a whole number with a warning, and an empty file likewise.
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", message=".*input contained no data")
                array: np.ndarray = np.loadtxt(
                    self._text,
                    dtype=dtype,
                    delimiter=self._delimiter,
                    comments=None,
                    quotechar='"',
                    skiprows=self._skipped,
                    usecols=list(numbers),
                    ndmin=2,
                )
        except MemoryError:
            raise
        except (ValueError, OverflowError, DeprecationWarning) as error:
            if dtype is np.int64:
                return None
            raise InputError(
                f"{self._path}: expected numbers in the columns that are used ({name}); "
                f"{first_line(error).rstrip('.')}. Leave such columns and lines out, or name the "
                f"columns to use: inputs = [...] under [data]; a first line of names is "
                f"header = true."
            ) from error
        return array


def _text(path: Path, allowance: Allowance) -> io.TextIOWrapper:
    """The whole text in memory, unpacked."""
    most = allowance.memory // _WIDENED
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            content = _read_most(gzip.GzipFile(fileobj=raw) if packed else raw, most)  # type: ignore[arg-type]
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(path, error) from error
    except Exception as error:  # zlib has its own
        raise _damaged(path, error) from error
    allowance.require(
        path,
        len(content) * _WIDENED if len(content) > most else 0,
        "numbers",
        "Save fewer examples, or give them by parquet: or hdf5:, which are read in parts.",
    )
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig")


def _read_most(file: IO[bytes], most: int) -> bytes:
    """The whole content, or somewhat more than `most` bytes of it."""
    pieces: list[bytes] = []
    size = 0
    while size <= most and (piece := file.read(_PIECE)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _damaged(path: Path, error: Exception) -> InputError:
    return unreadable(
        path,
        "a table of numbers as text (CSV, TSV, or either gzipped)",
        error,
        "Check that the file was copied whole.",
    )


def _delimiter(line: str) -> str:
    """The separator that occurs most often in a line."""
    return max(_DELIMITERS, key=line.strip().count)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
