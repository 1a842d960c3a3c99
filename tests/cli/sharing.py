"""A process that forks runs of one, two and four ranks: `python -m tests.cli.sharing`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import h5py
import numpy as np

from curvtool.cli.guard import catch_signals
from curvtool.errors import ExitCode
from curvtool.storage.small import read_json_file
from tests.cli.calls import CHECKPOINTS, MLP
from tests.cli.forking import ended, forked, said, words

SMALL = ("--dtype", "float64", "--max-examples", "101", "--batch-size", "16")
RUNS = {
    "lanczos": ("spectrum", str(MLP), *SMALL, "-k", "5", "--tol", "1e-10", "--vectors"),
    "eigsh": ("spectrum", str(MLP), *SMALL, "-k", "3", "--method", "eigsh"),
    "layers": ("spectrum", str(MLP), *SMALL, "-k", "2", "--per-layer"),
    "trace": ("trace", str(MLP), *SMALL, "--rel-err", "0.05", "--per-layer", "--frobenius"),
    "density": ("density", str(MLP), *SMALL, "--num-probes", "2", "-m", "12"),
    "diag": ("diag", str(MLP), *SMALL, "--rel-err", "0.3", "--weight-decay", "0.01"),
    "cnn": ("spectrum", str(CHECKPOINTS / "digits_cnn.pt"), *SMALL, "-k", "3"),
}
FOUR = ("lanczos",)
# With parameters shared out, held against the same without.
SHARDED = {"lanczos": (2, 4), "trace": (2,), "cnn": (2,)}
# Sums of P numbers round in another order, by some 1e-15; restarts and probes carry that on.
ALIKE = 1e-10
FIGURES = {
    "eigenvalues",
    "eigenvectors",
    "trace",
    "interval",
    "layer_trace",
    "frobenius_squared",
    "samples",
    "nodes",
    "weights",
    "deflated",
    "function_interval",
    "diagonal",
    "diagonal_stderr",
    "layer_quantiles",
}


def apart(one: Path, other: Path) -> float:
    """Largest difference of the figures of two run files, relative to each dataset's largest."""
    worst = 0.0
    seen = 0
    with h5py.File(one) as a, h5py.File(other) as b:

        def take(name: str, item: object) -> None:
            nonlocal worst, seen
            if not isinstance(item, h5py.Dataset) or name.rpartition("/")[2] not in FIGURES:
                return
            x, y = item[...], b[name][...]
            assert x.shape == y.shape, name
            if name == "eigenvectors":
                y = y * np.sign((x * y).sum(axis=1, keepdims=True))
            worst = max(worst, float(np.nanmax(np.abs(x - y)) / np.nanmax(np.abs(x))))
            seen += 1

        a.visititems(take)
    assert seen, one
    return worst


def same_for_any_number() -> None:
    """One, two and four ranks give the same figures, and move no more than an all-reduce does."""
    for name, arguments in RUNS.items():
        files = {}
        for ranks in (1, 2, 4) if name in FOUR else (1, 2):
            files[ranks] = Path(f"{name}.{ranks}.h5")
            codes = ended(forked((*arguments, "-o", str(files[ranks])), ranks=ranks))
            assert set(codes) == {ExitCode.DONE}, (name, ranks, codes, words())
            assert not said(1).exists() or ranks == 1 or not said(1).read_text(), words()
        for ranks, file in files.items():
            found = apart(files[1], file)
            assert found <= ALIKE, (name, ranks, found)
    for name, all_ranks in SHARDED.items():
        for ranks in all_ranks:
            file = Path(f"{name}.{ranks}.sharded.h5")
            arguments = (*RUNS[name], "--shard-params", "-o", str(file))
            codes = ended(forked(arguments, ranks=ranks))
            assert set(codes) == {ExitCode.DONE}, (name, ranks, codes, words())
            found = apart(Path(f"{name}.1.h5"), file)
            assert found <= ALIKE, (name, ranks, found)
    with h5py.File("lanczos.4.h5") as file:
        plan = json.loads(str(file.attrs["plan"]))
        size = file["eigenvectors"].shape[1]
    assert plan["ranks"] == 4
    # Reduce-scatter and all-gather, (W - 1) / W of 8 P bytes each; parts may be one number longer.
    assert 2 * 8 * size * 3 / 4 - 2 <= plan["bytes_moved"] <= 2 * 8 * (size + 4) * 3 / 4


def lost_ranks_are_named() -> None:
    """One that is killed or stopped ends the job with its name, and the state serves."""
    # One that is stopped while it waits itself gives no sign of life, rather than none of progress.
    for signal_, phrases in (
        (signal.SIGKILL, ("is gone",)),
        (signal.SIGSTOP, ("hangs", "is gone")),
    ):
        name = f"lost{int(signal_)}.h5"
        arguments = (*RUNS["lanczos"], "-o", name, "--save-every", "0", "--rank-timeout", "3s")
        children = forked(arguments, ranks=2)
        status = Path(f"{name}.status.json")
        until = time.monotonic() + 60
        while time.monotonic() < until:  # until products are made
            found = read_json_file(status)
            if found is not None and found["hvps"] >= 2:
                break
            time.sleep(0.002)
        os.kill(children[1], signal_)
        first = ended(children[:1], within=60)
        if first == [ExitCode.DONE]:  # it was through already
            os.kill(children[1], signal.SIGKILL)
            ended(children[1:])
            raise AssertionError("the run ended before its rank was lost")
        assert first == [ExitCode.INTERRUPTED], words()
        if signal_ == signal.SIGSTOP:
            os.kill(children[1], signal.SIGKILL)
        ended(children[1:])
        told = said(0).read_text()
        assert "Rank 1 (process" in told, told
        assert any(phrase in told for phrase in phrases), told
        found = read_json_file(status)
        assert found is not None
        assert found["state"] == "interrupted", found
        assert set(ended(forked(arguments, ranks=2))) == {ExitCode.DONE}, words()
        assert apart(Path("lanczos.2.h5"), Path(name)) == 0.0


def sharded_runs_go_on() -> None:
    """An interrupted run of shared parameters ends with the bits of one that was not."""
    arguments = (*RUNS["lanczos"], "--shard-params", "-o", "cut.h5", "--save-every", "0")
    for limit in ("2s", "1000s"):
        codes = set(ended(forked((*arguments, "--time-limit", limit), ranks=2)))
        if codes == {ExitCode.DONE}:
            break
        assert codes == {ExitCode.INTERRUPTED}, (codes, words())
    assert apart(Path("lanczos.2.sharded.h5"), Path("cut.h5")) == 0.0
    wrong = (*RUNS["eigsh"], "--shard-params", "-o", "whole.h5")
    assert set(ended(forked(wrong, ranks=2))) == {ExitCode.UNUSABLE_INPUT}, words()
    assert words().count("no rank has a whole vector") == 1, words()


def one_sentence_for_all() -> None:
    """A rank's error ends all of them; it is said once."""
    wrong = (*RUNS["lanczos"], "-o", "wrong.h5", "--batch-size", "1", "--max-examples", "1")
    codes = ended(forked(wrong, ranks=2), within=60)
    assert set(codes) == {ExitCode.UNUSABLE_INPUT}, (codes, words())
    spoken = words()
    assert spoken.count("Start fewer processes") == 1, spoken


def main() -> None:
    """Run all."""
    catch_signals()
    same_for_any_number()
    sharded_runs_go_on()
    lost_ranks_are_named()
    one_sentence_for_all()
    sys.stdout.write("alike\n")


if __name__ == "__main__":
    main()
