from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from curvtool.errors import InputError
from curvtool.storage.atomic import replacing
from curvtool.storage.spectrum import read_spectrum, write_spectrum
from tests import runs

# Writes two runs in turn, each told by its only eigenvalue and eigenvector, and says when.
WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    import numpy as np
    from curvtool.storage.spectrum import read_spectrum, write_spectrum
    from tests import runs
    two = [
        runs.run(runs.pairs([v], eigenvectors=np.full((1, 200_000), v))) for v in (1.0, 2.0)
    ]
    print("ready", flush=True)
    while True:
        for run in two:
            write_spectrum(Path(sys.argv[1]), run)
    """)
ROOT = Path(__file__).parents[2]


def test_sigkill_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    rng = random.Random(0)
    write_spectrum(path, runs.run(runs.pairs([1.0], eigenvectors=np.ones((1, 200_000)))))
    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.0, 0.05))  # a write takes a few milliseconds
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        pairs = read_spectrum(path).pairs
        assert pairs.eigenvalues[0] in {1.0, 2.0}
        assert (pairs.eigenvectors == pairs.eigenvalues[0]).all()
    write_spectrum(path, runs.run())
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


def test_an_exception_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as file:
            file["x"] = [1.0]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


def test_config_that_json_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="convert it first"):
        write_spectrum(tmp_path / "run.h5", runs.run(config={"device": object()}))
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/run\.h5.*No such file"):
        write_spectrum(tmp_path / "nowhere" / "run.h5", runs.run())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    write_spectrum(path, runs.run(runs.pairs([1.0])))
    big = runs.run(runs.pairs([2.0], eigenvectors=np.ones((1, 1_000_000))))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(InputError, match="Cannot write"):
            write_spectrum(path, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_spectrum(path).pairs.eigenvalues.tolist() == [1.0]
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


def test_two_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    command = [sys.executable, "-c", WRITER.replace("while True:", "for _ in range(15):")]
    children = [
        subprocess.Popen([*command, str(path)], cwd=ROOT, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [child.wait() for child in children] == [0, 0]
    assert read_spectrum(path).pairs.eigenvalues.tolist() == [2.0]
