from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from curvtool.errors import ExitCode, InputError
from curvtool.storage.digests import write_digests
from curvtool.storage.file import Foreign, RunHeader, peek
from curvtool.storage.spectrum import read_spectrum, write_spectrum
from tests import runs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.h5"


def edit(path: Path, change: Callable[[Any], None]) -> None:
    write_spectrum(path, runs.run())
    with h5py.File(path, "r+") as file:
        change(file)


def text(path: Path) -> None:
    path.write_text("no HDF5")


def empty(path: Path) -> None:
    path.touch()


def other_program(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["weights"] = [1.0, 2.0]


def other_schema(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = 7


def newer(path: Path) -> None:
    edit(path, lambda file: file.attrs.__setitem__("schema", "curvtool/3"))


def truncated(path: Path) -> None:
    write_spectrum(path, runs.run())
    path.write_bytes(path.read_bytes()[:-2000])


def no_outcome(path: Path) -> None:
    edit(path, lambda file: file.attrs.__delitem__("outcome"))


def bad_json(path: Path) -> None:
    edit(path, lambda file: file.attrs.__setitem__("config", "{'a': 1}"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (text, "expected an HDF5 run file"),
        (empty, "expected an HDF5 run file"),
        (Path.mkdir, "no regular file"),
        (other_program, "another program wrote it"),
        (other_schema, "another program wrote it"),
        (newer, "Upgrade curvtool"),
        (truncated, "cut short or damaged"),
        (no_outcome, "cut short or damaged"),
        (bad_json, "cut short or damaged"),
    ],
)
def test_what_is_no_run_file_is_foreign_and_not_read(
    make: Callable[[Path], None], words: str, path: Path
) -> None:
    make(path)
    with pytest.raises(InputError, match=words) as caught:
        read_spectrum(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code is ExitCode.UNUSABLE_INPUT
    assert peek(path) == Foreign(str(caught.value))


def test_nothing_is_not_foreign(path: Path) -> None:
    assert peek(path) is None
    with pytest.raises(InputError, match="there is none"):
        read_spectrum(path)


def test_a_dangling_link_takes_the_place(path: Path) -> None:
    path.symlink_to("nowhere.h5")
    assert isinstance(peek(path), Foreign)


def test_peek_gives_the_header(path: Path) -> None:
    run = runs.run()
    write_spectrum(path, run)
    assert peek(path) == RunHeader(
        kind="spectrum",
        outcome="converged",
        hvps=run.pairs.hvps,
        seconds=run.seconds,
        version=run.version,
        created=run.created,
        config=run.config,
        environment=run.environment,
    )


def test_peek_shows_runs_of_kinds_it_cannot_read(path: Path) -> None:

    def other_kind(file: Any) -> None:
        file.attrs["kind"] = "trace"
        write_digests(file)

    edit(path, other_kind)
    header = peek(path)
    assert isinstance(header, RunHeader)
    assert header.kind == "trace"
    with pytest.raises(InputError, match="'trace'"):
        read_spectrum(path)
    with pytest.raises(InputError, match=r"expected a run of kind 'spectrum', .* 'trace'"):
        read_spectrum(path)


def test_a_file_without_digests_is_damaged(path: Path) -> None:
    edit(path, lambda file: file.attrs.__delitem__("digests"))
    with pytest.raises(InputError, match=r"damaged \(its attribute digests is missing\)"):
        read_spectrum(path)


def test_datasets_that_miss_are_damage(path: Path) -> None:
    edit(path, lambda file: file.__delitem__("eigenvalues"))
    with pytest.raises(InputError, match="damaged"):
        read_spectrum(path)


def test_flipped_bits_of_eigenvectors_are_found(path: Path) -> None:
    vectors = runs.spectrum(2000).reshape(2, 1000)
    write_spectrum(path, runs.run(runs.pairs([2.0, 1.0], eigenvectors=vectors)))
    whole = path.read_bytes()
    at = whole.index(vectors[1, 500:510].tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(InputError, match="damaged"):
        read_spectrum(path)
    assert read_spectrum(path, eigenvectors=False).pairs.eigenvectors is None


def test_every_truncation_is_refused(path: Path) -> None:
    write_spectrum(path, runs.run())
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_spectrum(path)
        assert isinstance(peek(path), Foreign)
