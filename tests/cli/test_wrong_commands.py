"""What a newcomer types wrongly, and files that others made wrongly: one sentence that helps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curvtool.errors import ExitCode
from curvtool.problem.models import gpt, mlp
from tests.cli.calls import call, refusal

_CHARS = "abcdefg"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights and data of several kinds, in the working directory."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(mlp(sizes=[3, 4, 2]).state_dict(), "net.pt")
    model = gpt(vocab_size=7, context=4, width=4, layers=1, heads=1)
    torch.save(model.state_dict(), "gpt.pt")
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(20, 3)).astype("f4"), draw.integers(0, 2, 20)
    np.savez("d.npz", x=x, y=y)
    np.savez("wide.npz", x=draw.normal(size=(20, 7)), y=y)
    np.savez("many.npz", x=x, y=np.arange(20))
    np.savez("real.npz", x=x, y=x[:, 0])
    Path("d.csv").write_text("a,b,c,label\n" + "1.5,2,3,0\n4,5,6,1\n" * 4)
    Path("whole.csv").write_text("a,b,c,label\n" + "1,2,3,0\n4,5,6,1\n" * 4)
    Path("t.txt").write_text(_CHARS * 5)
    Path("empty").touch()
    Path("pictures").mkdir()
    return tmp_path


def mlp_with(**changed: str) -> list[str]:
    options = {"model": "mlp", "data": "npz:d.npz", "loss": "cross_entropy"} | changed
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ["check", "net.pt", "--model-kwargs", "sizes=[3,4,2]", *words]


def gpt_with(tokenizer: str) -> list[str]:
    sizes = {"vocab_size": 7, "context": 4, "width": 4, "layers": 1, "heads": 1}
    kwargs = [word for k, v in sizes.items() for word in ("--model-kwargs", f"{k}={v}")]
    data = ["--data", "text:t.txt", "--data-kwargs", "context=4"]
    data += ["--data-kwargs", f"tokenizer={tokenizer}"]
    return ["check", "gpt.pt", "--model", "gpt", *kwargs, *data, "--loss", "cross_entropy"]


@pytest.mark.parametrize("command", [mlp_with(), gpt_with(f"chars:{_CHARS}")])
def test_the_right_commands(command: list[str], folder: Path) -> None:
    assert call(*command, "-q").code == ExitCode.DONE


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "mpl"}, 'Did you mean "mlp"?'),
        ({"model": "MLP"}, 'Did you mean "mlp"?'),
        ({"loss": "CrossEntropy"}, 'Did you mean "cross_entropy"?'),
        ({"data": "npx:d.npz"}, 'Did you mean "npz"?'),
        ({"data": "d.npz"}, 'Did you mean "npz:d.npz"?'),
        ({"data": "torchvision:Cifar10"}, 'Did you mean "CIFAR10"?'),
        ({"data": "npz:d.npz", "data-kwargs": "inputs=X"}, 'Did you mean "x"?'),
        ({"data": "csv:d.csv", "data-kwargs": "targets=lable"}, 'Did you mean "label"?'),
        ({"data": "csv:d.csv"}, "--data-kwargs targets=label"),
        ({"data": "csv:d.csv", "data-kwargs": "target=label"}, "inputs = and targets ="),
        ({"data": "npz:d.csv"}, 'By its name it may be "csv:d.csv".'),
        ({"data": "csv:d.npz"}, 'By its name it may be "npz:d.npz".'),
        ({"data": "hdf5:d.npz"}, 'By its name it may be "npz:d.npz".'),
        ({"data": "npz:net.pt"}, 'By its name it may be "pt:net.pt".'),
        ({"data": "npz:pictures"}, "that is a folder. Correct the path"),
        ({"data": "imagefolder:d.npz"}, "that is no folder. Correct the path"),
        ({"data": "imagefolder:pictures"}, "a folder of pictures for each class"),
        ({"data": "npz:empty"}, "the file is empty (0 bytes)"),
        ({"data": "csv:empty"}, "the file is empty (0 bytes)"),
        ({"data": "https://example.com/d.npz"}, "got the address"),
        ({"data": "npz://example.com/d.npz"}, "got the address"),
        ({"problem": "d.npz"}, "expected TOML"),
        ({"key": "nothing"}, "the top level, 4 tensors"),
        # What does not fit one another.
        ({"data": "npz:many.npz"}, "labels from 0 to 1, since the model has 2 outputs"),
        ({"data": "npz:real.npz"}, "expected whole-number labels"),
        ({"data": "npz:wide.npz"}, "given float32 of shape (20, 7)"),
        (
            {"data": "csv:whole.csv", "data-kwargs": "targets=label"},
            '{ name = "dtype", to = "float32" }',
        ),
        ({"loss": "mse"}, "expected outputs and targets of one shape"),
        ({"model-kwargs": "sizes=[3,4,5]"}, "The names agree, the shapes do not"),
        ({"model-kwargs": "sizes=3"}, "a list of at least 2 positive integers; got 3. Correct"),
    ],
)
def test_a_sentence_that_helps(changed: dict[str, str], said: str, folder: Path) -> None:
    assert said in refusal(*mlp_with(**changed))


def test_an_address_is_no_checkpoint(folder: Path) -> None:
    command = ["check", "https://example.com/net.pt", *mlp_with()[2:]]
    assert "got an address. Fetch the file first" in refusal(*command)


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        ("chars:abcdefgh", "a vocabulary of 7 tokens, the rows of token_embedding; it has 8"),
        ("bytes", "it has 256. Give the tokenizer that the model was trained with"),
        ("chars:abcdef", "expected the tokenizer to know every character"),
        ("hf:nowhere", "nothing is downloaded"),
    ],
)
def test_tokenizers_of_another_model(tokenizer: str, said: str, folder: Path) -> None:
    assert said in refusal(*gpt_with(tokenizer))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_gpu_where_none_is(device: str, folder: Path) -> None:
    said = refusal(*mlp_with(device=device))
    assert f"--device {device} needs a GPU; torch sees none here. Use --device cpu" in said


@pytest.mark.parametrize(
    ("library", "changed", "line"),
    [
        ("pyarrow", {"data": "parquet:d.csv"}, "pip install 'curvtool[parquet]'"),
        ("pyarrow", {"data": "arrow:d.csv"}, "pip install 'curvtool[parquet]'"),
        ("safetensors", {"data": "safetensors:d.csv"}, "pip install 'curvtool[safetensors]'"),
        ("timm", {"model": "timm:resnet18"}, "pip install 'curvtool[timm]'"),
    ],
)
def test_a_library_that_is_not_installed(
    library: str,
    changed: dict[str, str],
    line: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert line in refusal(*mlp_with(**changed))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("d.npz", mlp_with()),
        ("d.csv", mlp_with(data="csv:d.csv", **{"data-kwargs": "targets=label"})),
        ("net.pt", mlp_with()),
        ("lab.toml", mlp_with(problem="lab.toml")),
    ],
)
def test_a_file_that_may_not_be_read(name: str, command: list[str], folder: Path) -> None:
    # Below a folder that everybody may search, which the test's own is not.
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        for path in folder.iterdir():
            if path.is_file():
                shutil.copy(path, place)
        Path("lab.toml").touch()
        Path(place).chmod(0o755)
        assert call(*command, "-q").code == ExitCode.DONE  # and all is imported
        Path(name).chmod(0)
        root = not os.geteuid()
        if root:
            os.seteuid(65534)
        try:
            ended = call(*command, "-q")
        finally:
            if root:
                os.seteuid(0)
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert "Permission denied" in ended.sentence
    assert ended.err.count("\n") == 1


# ---- defects that fuzzing found -----------------------------------------------------------------


def test_names_in_a_file_do_not_steer_the_terminal(folder: Path) -> None:
    weights = dict(torch.load("net.pt")) | {"\x1b[2J\u202e" + "x" * 50_000: torch.zeros(1)}
    torch.save(weights, "net.pt")
    said = refusal(*mlp_with())
    assert all(c.isprintable() or c == "\n" for c in said)
    assert "\\x1b[2J\\u202e" in said
    assert len(said) < 5000


@pytest.mark.parametrize(
    "changed",
    [
        {"model-kwargs": f"sizes=[3,{2**31},2]"},
        {"model": "cnn", "model-kwargs": f"channels=[{2**31}]"},
        {"model": "torchvision:alexnet", "model-kwargs": f"num_classes={2**40}"},
    ],
)
def test_models_far_larger_than_the_weights_are_not_built(
    changed: dict[str, Any], folder: Path
) -> None:
    command = ["check", "net.pt", "--data", "npz:d.npz", "--loss", "cross_entropy"]
    command += ["--model", changed.get("model", "mlp"), "--model-kwargs", changed["model-kwargs"]]
    if changed.get("model") == "cnn":
        command += ["--model-kwargs", "in_channels=3", "--model-kwargs", "classes=2"]
    assert "and the weights" in refusal(*command)


def test_layers_without_end(folder: Path) -> None:
    command = [word.replace("layers=1", f"layers={2**40}") for word in gpt_with("bytes")]
    assert "expected at most 10,000 layers of gpt" in refusal(*command)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[data]\nbatch_size = " + "9" * 9999, "is not"),
        ("a" + ".a" * 50_000 + " = 1", "a key of more than 100 parts"),
        ("[a" + ".a" * 50_000 + "]", "a key of more than 100 parts"),
        ("x = '" + "x" * 2**20 + "'", "more than 1,048,576 bytes"),
        ("x = " + "[" * 100_000, "is not"),
    ],
)
def test_problem_files_that_cost_too_much(text: str, said: str, folder: Path) -> None:
    Path("lab.toml").write_text(text)
    sentence = refusal("check", "net.pt", "--problem", "lab.toml")
    assert "expected TOML" in sentence
    assert said in sentence


def test_tensors_without_numbers_are_no_data(folder: Path) -> None:
    torch.save({"x": torch.zeros(20, 3, device="meta"), "y": torch.zeros(20)}, "d.pt")
    assert "saved from the meta device" in refusal(*mlp_with(data="pt:d.pt"))


def test_no_advice_to_load_data_unprotected(folder: Path) -> None:
    with zipfile.ZipFile("d.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02ctorch\nSize\n(Xtr.")
        archive.writestr("a/version", "3\n")
    said = refusal(*mlp_with(data="pt:d.pt"))
    assert "weights_only" not in said
    assert "still be loaded" not in said


def test_an_index_with_a_name_that_no_file_system_has(folder: Path) -> None:
    Path("net").mkdir()
    Path("net/model.safetensors.index.json").write_text('{"weight_map": {"a": "\\ud800"}}')
    assert "there is none" in refusal("check", "net", *mlp_with()[2:])


@pytest.mark.parametrize("change", [{"n_embd": "x"}, {"n_head": 0}, {"n_layer": -1}])
def test_configs_that_transformers_does_not_take(change: dict[str, Any], folder: Path) -> None:
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    Path("net").mkdir()
    Path("net.pt").rename("net/pytorch_model.bin")
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 7}
    config |= {"n_embd": 4, "n_head": 1, "n_layer": 1, "n_positions": 4} | change
    Path("net/config.json").write_text(json.dumps(config))
    command = ["check", "net", "--model", "hf", "--data", "npz:d.npz", "--loss", "causal_lm"]
    assert "expected" in refusal(*command)
