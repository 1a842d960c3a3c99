"""`parquet:FILE` and `arrow:FILE`: tables, read by row group or record batch (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.arrow_tables import Chunks, columns_of_table
from curvtool.problem.data.examples import Source
from curvtool.problem.data.files import file_of, read_kwargs, unreadable
from curvtool.problem.libraries import library
from curvtool.problem.spec import DataSpec

_REMEDY = "Check that the file was copied whole."


def open_parquet(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check that file and library are there; what is returned reads the footer."""
    read_kwargs(spec, {})
    path = file_of(spec, argument, "a parquet file")
    parquet = library("pyarrow.parquet", "parquet", spec.source)

    def read() -> Source:
        chunks = _guarded(path, "a parquet file", lambda: _of_parquet(path, parquet, allowance))
        return Source(spec.source, columns_of_table(spec, chunks))

    return read


def open_arrow(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check that file and library are there; what is returned maps the file."""
    read_kwargs(spec, {})
    path = file_of(spec, argument, "an Arrow file")
    pyarrow = library("pyarrow", "parquet", spec.source)

    def read() -> Source:
        chunks = arrow_chunks([path], path, pyarrow, allowance)
        return Source(spec.source, columns_of_table(spec, chunks))

    return read


def arrow_chunks(paths: list[Path], place: object, pyarrow: Any, allowance: Allowance) -> Chunks:
    """Record batches of Arrow files or streams, one file after another.

    Args:
        paths: of files of one schema.
        place: for messages.
        pyarrow: the library.
        allowance: memory that their batches may take.

    Returns:
        The table, mapped.

    Raises:
        InputError: for files that are no Arrow.
    """  # by what is called
    batches: list[Any] = []
    schema = None
    for path in paths:
        found, schema = _guarded(
            path,
            "an Arrow file",
            lambda path=path: _batches(path, pyarrow, allowance),  # type: ignore[misc]
        )
        batches += found
    return Chunks(
        place,
        schema,
        [batch.num_rows for batch in batches],
        lambda at, names: pyarrow.Table.from_batches([batches[at]]).select(names),
        allowance,
    )


def _of_parquet(path: Path, parquet: Any, allowance: Allowance) -> Chunks:
    file = parquet.ParquetFile(str(path), memory_map=True)
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]

    def read(at: int, names: list[str]) -> Any:
        return _guarded(
            path,
            "a parquet file",
            lambda: file.read_row_group(at, columns=names, use_threads=False),
        )

    def values(at: int, names: list[str]) -> int:
        """Numbers in a row group, those in lists counted, as the footer has it."""
        columns = (groups[at].column(i) for i in range(groups[at].num_columns))
        return sum(c.num_values for c in columns if c.path_in_schema.split(".")[0] in names)

    lengths = [group.num_rows for group in groups]
    return Chunks(path, file.schema_arrow, lengths, read, allowance, values=values)


def _batches(path: Path, pyarrow: Any, allowance: Allowance) -> tuple[list[Any], Any]:
    mapped = pyarrow.memory_map(str(path), "r")
    before = pyarrow.total_allocated_bytes()
    try:
        reader = pyarrow.ipc.open_file(mapped)
        found = (reader.get_batch(i) for i in range(reader.num_record_batches))
    except pyarrow.ArrowInvalid:
        mapped.seek(0)
        reader = pyarrow.ipc.open_stream(mapped)
        found = iter(reader)
    batches = []
    for batch in found:
        batch.validate()
        batches.append(batch)
        # What was packed is unpacked here; the rest stays in the file.
        taken = pyarrow.total_allocated_bytes() - before
        allowance.require(path, taken, "record batches", "Write them without compression.")
    return batches, reader.schema


def _guarded(path: Path, what: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:  # pyarrow has its own, among them one for memory
        raise unreadable(path, what, error, _REMEDY) from error
