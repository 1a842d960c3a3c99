"""What a warm start saves: products of sweeps over checkpoints of real trainings, warm and cold.

python scripts/bench_track.py                        # MLPs of 5,018 and 596,682 parameters
python scripts/bench_track.py --apart 25 --top-k 5   # one distance, one number of pairs

Trains a tanh network on the digits at a constant rate, saves checkpoints so many steps apart, and
runs `curvtool track` on them with and without `--cold`. Counts are the same on every run of a
machine; certificate (2 products) and completeness probe (10) are in them, and no start saves these.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from make_checkpoints import FOLDER, cross_entropy, epoch_batches

from curvtool.cli.app import run
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.save import save_checkpoint
from curvtool.storage.track import read_track

SIZES = {"5,018": [64, 48, 32, 10], "596,682": [64, 1024, 512, 10]}
# The first steps, where everything moves, belong to no sequence.
FIRST = 100
CHECKPOINTS = 5


def make_sequence(folder: Path, sizes: Sequence[int], apart: int) -> list[Path]:
    """Train, and save checkpoints so many steps apart."""
    with np.load(FOLDER / "digits.npz") as file:
        x, y = (torch.from_numpy(file[name]) for name in ("x_train", "y_train"))
    np.savez(folder / "digits.npz", x=x.numpy(), y=y.numpy())
    kwargs = {"sizes": list(sizes), "activation": "tanh"}
    torch.manual_seed(1)
    model = BUILTIN_MODELS["mlp"](**kwargs)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    saved: list[Path] = []
    last = FIRST + apart * (CHECKPOINTS - 1)
    for step, batch in zip(range(last + 1), epoch_batches(len(y), 64, 1), strict=False):
        if step >= FIRST and (step - FIRST) % apart == 0:
            saved.append(folder / f"step_{step}.pt")
            save_checkpoint(
                saved[-1],
                model,
                problem={
                    "model": {"build": "mlp", "kwargs": kwargs},
                    "data": {"source": "npz:digits.npz", "inputs": "x", "targets": "y"},
                    "loss": {"name": "cross_entropy"},
                },
            )
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(model(x[batch]), y[batch]))
        optimizer.step()
    return saved


def products(checkpoints: Sequence[Path], folder: Path, *more: str) -> tuple[list[int], float]:
    """Products of every checkpoint but the first, and the mean overlap of neighbours."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(["track", *map(str, checkpoints), "-o", str(folder), *more])
    assert code == 0, said.getvalue()
    rows = read_track(folder / "summary.h5").rows[1:]
    return [row.hvps for row in rows], float(np.mean([row.overlap for row in rows]))


def main() -> None:
    """Print a line for every sequence, number of pairs and tolerance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--apart", type=int, nargs="*", default=[1, 10, 50])
    parser.add_argument("--top-k", type=int, nargs="*", default=[5, 10, 20])
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| P | steps apart | k | tolerance on | overlap | cold | warm | saved |")
    print("|---|---|---|---|---|---|---|---|")
    for size in arguments.sizes:
        for apart in arguments.apart:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                found = make_sequence(folder, SIZES[size], apart)
                for k in arguments.top_k:
                    for accuracy in ("vectors", "values"):
                        asked = ("-k", str(k), "--accuracy", accuracy, "--hvp", "retained-graph")
                        out = folder / f"{k}-{accuracy}"
                        cold, overlap = products(found, out / "cold", *asked, "--cold")
                        warm, _ = products(found, out / "warm", *asked)
                        saved = 1 - sum(warm) / sum(cold)
                        figures = f"{overlap:.3f} | {sum(cold)} | {sum(warm)} | {saved:.0%}"
                        print(f"| {size} | {apart} | {k} | {accuracy} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
