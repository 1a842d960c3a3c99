"""Train the checkpoints in `checkpoints/` again, from fixed seeds, on one thread of the CPU.

python scripts/make_checkpoints.py               # all three, some minutes
python scripts/make_checkpoints.py digits_mlp    # one of them
python scripts/make_checkpoints.py --data        # the .npz files too; needs scikit-learn
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.save import save_checkpoint

FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"
CONTEXT = 64
WINDOWS = 128
HELD_OUT = 0.1  # of the novel, at its end


def make_digits_data(folder: Path) -> None:
    """Write digits.npz: images (N, 8, 8) in 0..1, four fifths of them for training."""
    from sklearn.datasets import load_digits  # only here is it needed

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:1437], order[1437:]
    np.savez_compressed(
        folder / "digits.npz",
        x_train=images[train],
        y_train=labels[train],
        x_test=images[test],
        y_test=labels[test],
    )


def make_text_data(folder: Path) -> None:
    """Write persuasion.npz: evenly spaced windows of the trained part, and the characters."""
    train, _, characters = read_text(folder)
    starts = np.linspace(0, len(train) - CONTEXT - 1, WINDOWS).astype(np.int64)
    windows = np.stack([train[start : start + CONTEXT + 1] for start in starts]).astype(np.uint8)
    np.savez_compressed(
        folder / "persuasion.npz",
        x=windows[:, :-1],
        y=windows[:, 1:],
        characters=np.array(list(characters)),
    )


def read_text(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """The novel as indices into its sorted characters: to train on, held out, the characters."""
    text = (folder / "persuasion.txt").read_text(encoding="utf-8")
    characters = "".join(sorted(set(text)))
    place = {character: i for i, character in enumerate(characters)}
    tokens = np.array([place[character] for character in text])
    split = round(len(tokens) * (1 - HELD_OUT))
    return tokens[:split], tokens[split:], characters


def make_digits_mlp(folder: Path) -> None:
    """5,018 parameters, tanh: the loss is analytic."""
    train_digits(
        folder / "digits_mlp.pt",
        build="mlp",
        kwargs={"sizes": [64, 48, 32, 10], "activation": "tanh"},
        epochs=25,
        rate=0.05,
        seed=1,
    )


def make_digits_cnn(folder: Path) -> None:
    """5,178 parameters, with BatchNorm."""
    train_digits(
        folder / "digits_cnn.pt",
        build="cnn",
        kwargs={"in_channels": 1, "channels": [16, 32], "classes": 10, "norm": "batch"},
        epochs=12,
        rate=0.05,
        seed=2,
    )


def train_digits(
    path: Path, *, build: str, kwargs: dict[str, Any], epochs: int, rate: float, seed: int
) -> None:
    """Train a built-in model on the digits by SGD and save it with its problem."""
    with np.load(path.with_name("digits.npz")) as file:
        data = {name: torch.from_numpy(file[name]) for name in file.files}
    torch.manual_seed(seed)
    model = BUILTIN_MODELS[build](**kwargs)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
    batch_size = 64
    total = len(data["y_train"])
    steps = epochs * math.ceil(total / batch_size)
    fit(
        model,
        optimizer,
        ((data["x_train"][i], data["y_train"][i]) for i in epoch_batches(total, batch_size, seed)),
        steps=steps,
    )
    save_checkpoint(
        path,
        model,
        problem={
            "model": {"build": build, "kwargs": kwargs},
            "data": {
                "source": "npz:digits.npz",
                "inputs": "x_train",
                "targets": "y_train",
                "batch_size": 256,
            },
            "loss": {"name": "cross_entropy"},
        },
    )
    report(
        path,
        model,
        train=(data["x_train"], data["y_train"]),
        test=(data["x_test"], data["y_test"]),
    )


def make_char_gpt(folder: Path) -> None:
    """Two blocks of width 64 over the characters of the novel."""
    train, held_out, characters = read_text(folder)
    kwargs = {
        "vocab_size": len(characters),
        "context": CONTEXT,
        "width": 64,
        "layers": 2,
        "heads": 4,
    }
    seed, steps = 3, 1000
    torch.manual_seed(seed)
    model = BUILTIN_MODELS["gpt"](**kwargs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.1)
    fit(model, optimizer, random_windows(torch.from_numpy(train), 32, seed), steps=steps)
    path = folder / "char_gpt.pt"
    save_checkpoint(
        path,
        model,
        problem={
            "model": {"build": "gpt", "kwargs": kwargs},
            "data": {
                "source": "npz:persuasion.npz",
                "inputs": "x",
                "targets": "y",
                "batch_size": 32,
            },
            "loss": {"name": "cross_entropy"},
        },
    )
    with np.load(folder / "persuasion.npz") as file:
        spec = (torch.from_numpy(file["x"]).long(), torch.from_numpy(file["y"]).long())
    report(path, model, spec=spec, train=cut(train), test=cut(held_out))


def epoch_batches(total: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Indices of batches, epoch after epoch without end, each a fresh permutation."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(total, generator=generator).tensor_split(
            tuple(range(batch_size, total, batch_size))
        )


def random_windows(tokens: Tensor, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows anywhere in the text, with the next character of each place as its target."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(tokens) - CONTEXT, (batch_size, 1), generator=generator)
        windows = tokens[starts + torch.arange(CONTEXT + 1)]
        yield windows[:, :-1], windows[:, 1:]


def cut(tokens: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The whole text as windows side by side."""
    count = (len(tokens) - 1) // CONTEXT
    inputs = torch.from_numpy(tokens[: count * CONTEXT]).view(count, CONTEXT)
    targets = torch.from_numpy(tokens[1 : count * CONTEXT + 1]).view(count, CONTEXT)
    return inputs, targets


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    steps: int,
) -> None:
    """Minimise cross-entropy, with a rate that rises over 5 % of the steps and then falls."""
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / (0.05 * steps)) * (1 + math.cos(math.pi * step / steps)) / 2
        ),
    )
    model.train()
    for _, (inputs, targets) in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(model(inputs), targets))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over every label; the last axis of `logits` is the classes."""
    return F.cross_entropy(logits.flatten(end_dim=-2), targets.flatten())


@torch.no_grad()
def report(path: Path, model: nn.Module, **sets: tuple[Tensor, Tensor]) -> None:
    """Print size, loss and accuracy, as the table of `checkpoints/README.md` has them."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{path.name}: P = {parameters:,}, {path.stat().st_size:,} bytes")
    for name, (inputs, targets) in sets.items():
        logits = torch.cat([
            model(part) for part in inputs.tensor_split(math.ceil(len(inputs) / 256))
        ])
        loss = cross_entropy(logits, targets).item()
        accuracy = (logits.argmax(dim=-1) == targets).double().mean().item()
        print(f"  {name}: loss {loss:.4f}, accuracy {accuracy:.2%} of {targets.numel():,}")


MAKERS: dict[str, Callable[[Path], None]] = {
    "digits_mlp": make_digits_mlp,
    "digits_cnn": make_digits_cnn,
    "char_gpt": make_char_gpt,
}


def main() -> None:
    """Make what the command line names, by default every checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MAKERS)}")
    parser.add_argument("--data", action="store_true", help="make the .npz files too")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the data are")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MAKERS)
    if unknown:
        parser.error(f"no such checkpoint: {', '.join(sorted(unknown))}")
    # More threads add the numbers of a sum in another order.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if arguments.data:
        make_digits_data(arguments.folder)
        make_text_data(arguments.folder)
    for name in arguments.names or MAKERS:
        MAKERS[name](arguments.folder)


if __name__ == "__main__":
    main()
