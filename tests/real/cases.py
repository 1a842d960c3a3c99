"""The cases of `scripts/examples/`: what each is, how good it is known to be, and its loss anew."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
Values = tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """A model and data of others.

    Attributes:
        name: of the test.
        problem: below `scripts/examples/`; its folder's name is what the fetch script takes.
        checkpoint: below the folder of all packages.
        loss: model, what a batch holds -> mean loss, written without curvtool.
        score: model, what a batch holds -> the figure that its authors would know it by.
        score_of_all: that figure on all that `dataset` gives, and how much it may differ.
        examples: of the spectrum: one product takes less than a second on a core.
        examples_of_trace: of the trace, which takes 300 products.
        weights: where the file has them.
        settings: arguments of its hooks.
        needs: modules to import beside curvtool's.
    """

    name: str
    problem: str
    checkpoint: str
    loss: Callable[[nn.Module, Values], Tensor]
    score: Callable[[nn.Module, Values], float]
    score_of_all: tuple[float, float]
    examples: int
    examples_of_trace: int
    weights: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The case's name for `scripts/fetch_real.py`."""
        return self.problem.partition("/")[0]

    @property
    def package(self) -> str:
        """Of the checkpoint."""
        return self.checkpoint.partition("/")[0]

    def hooks(self) -> ModuleType:
        """The example's Python file, imported anew."""
        [place] = (EXAMPLES / self.folder).glob("*.py")
        spec = importlib.util.spec_from_file_location(f"real_hooks_{self.folder}", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def model(self, root: Path) -> nn.Module:
        """The model with its weights, loaded by torch and nothing of curvtool."""
        network: nn.Module = self.hooks().build(**self.built_from(root))
        state = torch.load(root / self.checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state[self.weights] if self.weights else state)
        return network.float().eval()

    def data(self, root: Path) -> Values:
        """All examples."""
        made = self.hooks().dataset(root=root, **dict(self.settings))
        return tuple(made.values()) if isinstance(made, dict) else tuple(made)

    def arguments(self, root: Path) -> list[str]:
        """Of any command of curvtool."""
        words = [str(root / self.checkpoint), "--problem", str(EXAMPLES / self.problem)]
        words += ["--data-kwargs", f'root="{root}"']
        return [*words, "--model-kwargs", f'root="{root}"'] if self.built_from(root) else words

    def built_from(self, root: Path) -> dict[str, Any]:
        """Arguments of `build`; the Raman network is not built of its package's class."""
        return {} if self.folder == "mlp" else {"root": root, **dict(self.settings)}


def _cross_entropy(model: nn.Module, values: Values) -> Tensor:
    *inputs, labels = values
    return F.cross_entropy(model(*inputs), labels)


def _accuracy(model: nn.Module, values: Values) -> float:
    *inputs, labels = values
    return float((model(*inputs).argmax(-1) == labels).float().mean())


def _picked(model: nn.Module, values: Values) -> Tensor:
    # By the definition: the log-probability of the label, changed in sign.
    *inputs, labels = values
    log_probabilities: Tensor = model(*inputs)
    return -log_probabilities.gather(1, labels[:, None]).mean()


def _squared(model: nn.Module, values: Values) -> Tensor:
    x, y = values
    apart: Tensor = model(x) - y
    return apart.square().mean()


def _root(model: nn.Module, values: Values) -> float:
    return math.sqrt(float(_squared(model, values)))


def _masked(model: Any, values: Values) -> tuple[Tensor, Tensor]:
    ids, mask, labels = values
    asked = labels != -100
    return model(input_ids=ids, attention_mask=mask).logits[asked], labels[asked]


def _masked_loss(model: nn.Module, values: Values) -> Tensor:
    return F.cross_entropy(*_masked(model, values))


def _masked_accuracy(model: nn.Module, values: Values) -> float:
    logits, labels = _masked(model, values)
    return float((logits.argmax(-1) == labels).float().mean())


CASES = (
    Case(
        name="mlp",
        problem="mlp/problem.toml",
        checkpoint="imelt/imelt/models/l3_n394_p0.308048_mGELU_cpfree.pth",
        loss=_squared,
        score=_root,
        score_of_all=(0.084, 0.001),
        examples=206,
        examples_of_trace=206,
    ),
    Case(
        name="cnn-mnist",
        problem="cnn/mnist.toml",
        checkpoint="ccexam/ccexam/weights/mnist.pth",
        loss=_cross_entropy,
        score=_accuracy,
        score_of_all=(0.999, 0.001),  # 0.955 without normalisation
        examples=300,
        examples_of_trace=100,
        settings=(("digits", "mnist"),),
    ),
    Case(
        name="cnn-usps",
        problem="cnn/usps.toml",
        checkpoint="ccexam/ccexam/weights/usps.pth",
        loss=_cross_entropy,
        score=_accuracy,
        score_of_all=(0.835, 0.001),
        examples=500,
        examples_of_trace=200,
        settings=(("digits", "usps"),),
    ),
    Case(
        name="rnn",
        problem="rnn/problem.toml",
        checkpoint="ethnicolr2/ethnicolr2/models/census_lstm_lastname.pt",
        loss=_picked,
        score=_accuracy,
        score_of_all=(0.89, 0.01),  # the majority is 0.81
        examples=100,
        examples_of_trace=30,
    ),
    Case(
        name="transformer",
        problem="transformer/problem.toml",
        checkpoint="metatronnanoguard/nanoguard/assets/model.pt",
        loss=_cross_entropy,
        score=_accuracy,
        score_of_all=(0.94, 0.02),
        examples=6,
        examples_of_trace=2,
        weights="model_state_dict",
        needs=("tiktoken", "pyarrow"),
    ),
    Case(
        name="masked-lm",
        problem="masked-lm/problem.toml",
        checkpoint="rxnmapper/rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/"
        "pytorch_model.bin",
        loss=_masked_loss,
        score=_masked_accuracy,
        score_of_all=(0.88, 0.01),
        examples=8,
        examples_of_trace=4,
        needs=("transformers",),
    ),
)
