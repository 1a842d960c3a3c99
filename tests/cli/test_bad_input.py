"""Whatever cannot be used: a sentence, exit code 4, and nothing written."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import curvtool
from curvtool.errors import ExitCode
from curvtool.problem.models.mlp import mlp
from curvtool.storage.spectrum import write_spectrum
from tests import runs
from tests.cli.calls import MLP, QUICK, call, refusal, refused
from tests.cli.problems import net, write_data, write_problem

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture
def problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A problem in the working directory that would run as it is."""
    monkeypatch.chdir(tmp_path)
    return write_problem(tmp_path)


def changed(problem: tuple[str, ...], option: str, value: str) -> tuple[str, ...]:
    """The same command with one option's value replaced."""
    return (*problem, option, value)


def test_the_problem_itself_is_good(problem: tuple[str, ...]) -> None:
    assert call(*problem).code == ExitCode.DONE


# ---- the checkpoint file ------------------------------------------------------------------------


def _text() -> bytes:
    return b"epoch,loss\n1,0.5\n"


def _damage(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[: middle - 40] + b"\xff" * 80 + data[middle + 40 :]


@pytest.mark.parametrize(
    ("spoil", "came"),
    [
        (lambda _: b"", "empty"),
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[:3], "truncated"),
        (lambda _: PNG, "PNG"),
        (lambda _: _text(), "text file"),
        (lambda _: os.urandom(4096), "no format known"),
        (lambda _: bytes(4096), "no format known"),
        (lambda _: pickle.dumps({"a": 1}), "plain pickle"),
        (lambda data: b"\x1f\x8b" + data, "gzip"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (lambda _: b"<!DOCTYPE html><html></html>", "HTML"),
    ],
)
def test_files_that_are_no_checkpoint(
    problem: tuple[str, ...], spoil: Callable[[bytes], bytes], came: str
) -> None:
    path = Path("net.pt")
    path.write_bytes(spoil(path.read_bytes()))
    sentence = refusal(*problem)
    assert "expected a checkpoint written by torch.save" in sentence
    assert came in sentence


def test_no_such_file_suggests_the_one_beside_it(problem: tuple[str, ...]) -> None:
    sentence = refusal("spectrum", "nett.pt", *problem[2:])
    assert "there is no such file" in sentence
    assert 'Did you mean "net.pt"?' in sentence


@pytest.mark.parametrize("path", [".", "net.pt/x.pt", "a" * 300 + ".pt"])
def test_paths_that_lead_nowhere(problem: tuple[str, ...], path: str) -> None:
    assert "expected" in refusal("spectrum", path, *problem[2:], "-o", "run.h5")


def test_a_damaged_pickle_inside_a_whole_archive(problem: tuple[str, ...]) -> None:
    path = Path("net.pt")
    path.write_bytes(_damage(path.read_bytes()))
    assert call(*problem, "-q").code in {ExitCode.UNUSABLE_INPUT, ExitCode.DONE}


def test_an_hdf5_file_points_to_show(problem: tuple[str, ...]) -> None:
    with h5py.File("net.h5", "w") as file:
        file["x"] = [1.0]
    sentence = refusal("spectrum", "net.h5", *problem[2:])
    assert "HDF5" in sentence
    assert "curvtool show" in sentence


class Payload:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return exec, ("open('executed', 'w').close()",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_needs_code_is_named_and_never_run(
    problem: tuple[str, ...], legacy: bool
) -> None:
    torch.save(
        {"model": net().state_dict(), "extra": Payload()},
        "net.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    for trust in ((), ("--trust",)):
        sentence = refusal(*problem, *trust)
        assert "exec" in sentence
        assert "Nothing of it was executed" in sentence
        assert not Path("executed").exists()


def test_a_checkpoint_of_a_whole_module_is_refused(problem: tuple[str, ...]) -> None:
    torch.save(mlp(sizes=[3, 2]), "net.pt")
    assert "torch.save(model.state_dict()" in refusal(*problem)


# ---- the weights --------------------------------------------------------------------------------


def save_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = dict(net().state_dict())
    change(weights)
    torch.save(weights, "net.pt")


def test_missing_keys(problem: tuple[str, ...]) -> None:
    save_weights(lambda weights: weights.pop("last.bias"))
    sentence = refusal(*problem)
    assert "last.bias" in sentence
    assert "missing" in sentence


def test_unexpected_keys(problem: tuple[str, ...]) -> None:
    save_weights(lambda weights: weights.update(third=torch.ones(2)))
    sentence = refusal(*problem)
    assert "third" in sentence
    assert "nothing" in sentence


def test_misshapen_keys(problem: tuple[str, ...]) -> None:
    save_weights(lambda weights: weights.update({"last.bias": torch.ones(3)}))
    sentence = refusal(*problem)
    assert "(2,)" in sentence
    assert "(3,)" in sentence


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(problem: tuple[str, ...], value: float) -> None:
    save_weights(lambda weights: weights["last.bias"].fill_(value))
    sentence = refusal(*problem)
    assert "expected finite weights" in sentence
    assert "last.bias" in sentence


# ---- data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "came"), [(1, "the largest label is 2"), (-1, "is -1")])
def test_labels_out_of_range(problem: tuple[str, ...], shift: int, came: str) -> None:
    write_data(Path("data.npz"), shift=shift)
    sentence = refusal(*problem)
    assert "expected labels from 0 to 1" in sentence
    assert came in sentence


def test_an_empty_dataset(problem: tuple[str, ...]) -> None:
    write_data(Path("data.npz"), examples=0)
    assert "the dataset is empty" in refusal(*problem)
    assert "the dataset is empty" in refusal(*problem, "--data", "hooks.py:nothing")


def test_data_with_nan(problem: tuple[str, ...]) -> None:
    np.savez("data.npz", x=np.full((4, 3), np.nan, np.float32), y=np.zeros(4, np.int64))
    assert "expected finite numbers" in refusal(*problem)


def test_data_of_another_model(problem: tuple[str, ...]) -> None:
    write_data(Path("data.npz"), width=7)
    sentence = refused(*problem).sentence
    assert "(40, 7)" in sentence
    assert "belong together" in sentence


def test_data_of_another_model_built_in(problem: tuple[str, ...]) -> None:
    write_data(Path("data.npz"), width=7)
    sentence = refused("spectrum", MLP, "--data", "npz:data.npz").sentence
    assert "(40, 7)" in sentence


@pytest.mark.parametrize("content", [b"", PNG, b"x,y\n1,2\n"])
def test_data_that_is_no_archive(problem: tuple[str, ...], content: bytes) -> None:
    Path("data.npz").write_bytes(content)
    assert "expected a NumPy archive" in refusal(*problem)


def test_no_such_data(problem: tuple[str, ...]) -> None:
    sentence = refusal(*problem, "--data", "npz:dato.npz")
    assert "dato.npz" in sentence
    assert 'Did you mean "data.npz"?' in sentence


# ---- the problem spec ---------------------------------------------------------------------------


def test_missing_parts_are_named_with_the_line_to_add(problem: tuple[str, ...]) -> None:
    sentence = refusal("spectrum", "net.pt", "--model", "hooks.py:build")
    assert "missing: data, loss" in sentence
    assert "--data file.py:dataset --loss cross_entropy" in sentence
    assert "[loss]" in sentence


@pytest.mark.parametrize(
    ("option", "value", "suggested"),
    [
        ("--model", "mpl", "mlp"),
        ("--loss", "cross_entrpy", "cross_entropy"),
        ("--model", "torchvision:resnet19", "resnet1"),
        ("--data", "torchvision:CIFAR11", "CIFAR1"),
        ("--model", "hooks.py:biuld", "build"),
        ("--model", "hoks.py:build", "hooks.py"),
        ("--model-kwargs", "activatoin=3", "activation"),
    ],
)
def test_misspelt_parts_are_put_right(
    problem: tuple[str, ...], option: str, value: str, suggested: str
) -> None:
    if option == "--model-kwargs":
        Path("hooks.py").write_text(
            Path("hooks.py").read_text().replace("def build():", "def build(activation=None):")
        )
    assert f'Did you mean "{suggested}' in refusal(*problem, option, value)


@pytest.mark.parametrize(
    ("toml", "came"),
    [
        ("[modle]\nbuild = 'mlp'\n", 'Did you mean "model"?'),
        ("[model]\nbiuld = 'mlp'\n", 'Did you mean "build"?'),
        ("[model]\nbuild = 3\n", "expected build in [model] to be a string"),
        ("model = 'mlp'\n", "expected [model] to be a table"),
        ("[model\n", "expected TOML"),
    ],
)
def test_problem_files_that_say_what_no_problem_has(
    problem: tuple[str, ...], toml: str, came: str
) -> None:
    Path("lab.toml").write_text(toml)
    assert came in refusal(*problem, "--problem", "lab.toml")


def test_no_such_problem_file(problem: tuple[str, ...]) -> None:
    assert "expected a problem file; there is no" in refusal(*problem, "--problem", "lab.toml")


def test_a_spec_of_a_later_schema(problem: tuple[str, ...]) -> None:
    weights = {"model": net().state_dict(), "curvtool": {"schema": "curvtool-checkpoint/9"}}
    torch.save(weights, "net.pt")
    assert "curvtool-checkpoint/9" in refusal(*problem)


# ---- the user's own code ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "hook", "where"),
    [
        ("--model", "raising_build", "in build"),
        ("--model", "raising_forward", "in forward"),
        ("--loss", "raising_loss", "in loss"),
        ("--data", "rows", "in a row"),
    ],
)
def test_a_hook_that_raises_shows_its_traceback_then_ours(
    problem: tuple[str, ...], option: str, hook: str, where: str
) -> None:
    ended = refused(*problem, option, f"hooks.py:{hook}")
    theirs, _, ours = ended.err.partition("curvtool: ")
    assert theirs.startswith("Traceback (most recent call last)")
    assert "hooks.py" in theirs
    assert theirs.rstrip().endswith(f"ArithmeticError: {where}")
    assert f"hooks.py:{hook}" in ours or "hooks.py:build" in ours
    assert f"ArithmeticError: {where}" in ours


def test_a_hook_file_that_does_not_even_import(problem: tuple[str, ...]) -> None:
    Path("broken.py").write_text("def build(:\n")
    ended = refused(*problem, "--model", "broken.py:build")
    assert "SyntaxError" in ended.err
    assert "broken.py" in ended.sentence


def test_want_of_memory_is_no_bug(problem: tuple[str, ...]) -> None:
    assert "fit into memory" in refusal(*problem, "--model", "hooks.py:no_room")


# ---- trust --------------------------------------------------------------------------------------

SPEC = {
    "model": {"build": "hooks.py:build"},
    "data": {"source": "npz:data.npz"},
    "loss": {"name": "cross_entropy"},
}


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stranger, which is not the working directory."""
    folder = tmp_path / "strange"
    write_problem(folder)
    with (folder / "hooks.py").open("a") as hooks:
        hooks.write('from pathlib import Path\nPath(__file__).with_name("ran").touch()\n')
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return folder


def test_a_hook_inside_a_checkpoint_needs_trust(strange: Path) -> None:
    path = strange / "net.pt"
    curvtool.save_checkpoint(path, mlp(sizes=[1, 1]), problem=SPEC)
    content = torch.load(path, weights_only=True)
    key = next(name for name in content if name != "curvtool")
    torch.save({**content, key: net().state_dict()}, path)
    sentence = refusal("spectrum", path)
    assert "--trust" in sentence
    assert "hooks.py:build" in sentence
    assert not (strange / "ran").exists()
    assert call("spectrum", path, "--trust").code == ExitCode.DONE
    assert (strange / "ran").exists()


def test_a_hook_in_a_file_beside_the_checkpoint_needs_trust(strange: Path) -> None:
    lines = [f'[{name}]\n{key} = "{value}"' for name, s in SPEC.items() for key, value in s.items()]
    (strange / "net.toml").write_text("\n".join(lines))
    sentence = refusal("spectrum", strange / "net.pt")
    assert "--trust" in sentence
    assert "hooks.py:build" in sentence
    assert not (strange / "ran").exists()
    assert call("spectrum", strange / "net.pt", "--trust").code == ExitCode.DONE
    named = call("spectrum", strange / "net.pt", "--problem", strange / "net.toml", "-o", "b.h5")
    assert named.code == ExitCode.DONE


def test_a_hook_in_the_working_directory_needs_no_trust(
    strange: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'[{name}]\n{key} = "{value}"' for name, s in SPEC.items() for key, value in s.items()]
    (strange / "curvtool.toml").write_text("\n".join(lines))
    assert "--trust" in refusal("spectrum", strange / "net.pt")
    monkeypatch.chdir(strange)
    assert call("spectrum", "net.pt").code == ExitCode.DONE


# ---- limits and outputs -------------------------------------------------------------------------


def test_more_pairs_than_parameters(problem: tuple[str, ...]) -> None:
    sentence = refusal(*problem, "--top-k", "27")
    assert "--top-k 27" in sentence
    assert "26 x 26" in sentence
    assert call(*problem, "--top-k", "26").code == ExitCode.DONE


def test_more_pairs_than_parameters_after_the_default_gave_fewer(
    problem: tuple[str, ...], tmp_path: Path
) -> None:
    asked = (*problem, "--params", "last.bias")
    assert call(*asked).code == ExitCode.DONE  # both eigenvalues, since there are no 20
    assert "2 x 2" in refusal(*asked, "--top-k", "20")


def test_patterns_that_match_nothing(problem: tuple[str, ...]) -> None:
    sentence = refusal(*problem, "--params", "frist.*")
    assert "first.weight" in sentence


def test_a_gpu_that_is_not_there(problem: tuple[str, ...]) -> None:
    assert "--device cuda:99" in refusal(*problem, "--device", "cuda:99")


def test_memory_too_small_for_the_vectors(problem: tuple[str, ...]) -> None:
    sentence = refusal(*problem, "--memory", "1kB")
    assert "--memory allows 1,000 B" in sentence


def test_all_of_a_model_too_large(problem: tuple[str, ...]) -> None:
    assert "5,000" in refusal("spectrum", MLP, "--all", "--max-examples", "10")


@pytest.mark.parametrize(
    ("out", "came"),
    [
        ("missing/run.h5", "mkdir -p missing"),
        ("net.pt/run.h5", "net.pt"),
        (".", "is a folder"),
        ("a" * 300, "File name too long"),
        ("/proc/run.h5", "/proc"),
        ("/dev/null", "pipe or device"),
    ],
)
def test_outputs_that_cannot_be_written(problem: tuple[str, ...], out: str, came: str) -> None:
    for force in ((), ("--force",)):
        sentence = refusal(*problem, "-o", out, *force)
        assert came in sentence
        assert "--out" in sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_closed_to_us(problem: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "Permission denied" in refusal(*problem, "-o", "closed/run.h5")


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_the_checkpoint_is_never_the_output(
    problem: tuple[str, ...], force: tuple[str, ...]
) -> None:
    assert "net.pt" in refusal(*problem, "-o", "net.pt", *force)
    Path("link.h5").symlink_to("net.pt")
    assert "checkpoint" in refusal(*problem, "-o", "link.h5", *force)


@pytest.mark.parametrize("content", [b"", b"notes of mine\n", PNG])
def test_a_foreign_output_is_kept_unless_forced(problem: tuple[str, ...], content: bytes) -> None:
    path = Path("net.spectrum.h5")
    path.write_bytes(content)
    sentence = refusal(*problem)
    assert "net.spectrum.h5" in sentence
    assert "--force" in sentence
    assert call(*problem, "--force").code == ExitCode.DONE
    assert h5py.is_hdf5(path)


def test_another_programs_hdf5_is_kept(problem: tuple[str, ...]) -> None:
    with h5py.File("net.spectrum.h5", "w") as file:
        file["x"] = [1.0]
    assert "another program wrote it" in refusal(*problem)


def test_a_disk_that_fills_up_loses_no_result(
    problem: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as changed:
        changed.setattr(os, "fsync", full)
        ended = call(*problem, "--json")
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert "No space left on device" in ended.sentence
    assert json.loads(ended.out)["all_converged"] is True
    assert [path.name for path in Path().glob("*net.spectrum*")] == ["net.spectrum.h5.status.json"]
    assert call(*problem, "--json").code == ExitCode.DONE


# ---- show ---------------------------------------------------------------------------------------


def test_show_refuses_what_is_no_run(problem: tuple[str, ...]) -> None:
    Path("empty.h5").touch()
    write_spectrum(Path("run.h5"), runs.run())
    whole = Path("run.h5").read_bytes()
    Path("cut.h5").write_bytes(whole[: len(whole) // 2])
    for name in ("nothing.h5", "net.pt", "empty.h5", "cut.h5", ".", "a" * 300):
        ended = call("show", name)
        assert ended.code == ExitCode.UNUSABLE_INPUT
        assert "Traceback" not in ended.err
        assert "expected" in ended.sentence
        assert not ended.out


def test_the_quick_problem_refuses_nothing(problem: tuple[str, ...]) -> None:
    assert call("spectrum", *QUICK, "-q", "-o", "run.h5").code == ExitCode.DONE
