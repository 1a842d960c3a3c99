"""Which of the five places decides, and whose code may run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curvtool.errors import InputError
from curvtool.problem.loading import LoadedProblem, ProblemRequest, load_problem
from curvtool.problem.resolve import found_sources, resolve
from curvtool.problem.save import save_checkpoint
from curvtool.problem.spec import Origin, ProblemSpec, parse_spec
from tests.problem.sentences import refusal

PLACES = ["command line", "--problem", "embedded", "beside", "folder", "working directory"]
MODEL = """
import torch
with open({ran!r}, "a") as file: file.write("ran\\n")
def build(width=1): return torch.nn.Linear(2, width)
def dataset(): return torch.zeros(3, 2), torch.zeros(3, 1)
def loss(model, batch): return (model(batch[0]) - batch[1]).square().mean()
"""


class Lab:
    """A working directory and a folder with a checkpoint, in which each place may say a thing."""

    def __init__(self, root: Path) -> None:
        self.here, self.there = root / "here", root / "there"
        self.ran = root / "ran.txt"
        for folder in (self.here, self.there):
            folder.mkdir()
            (folder / "hooks.py").write_text(MODEL.format(ran=str(self.ran)))
        self.request: dict[str, object] = {}

    def say(self, place: str, section: str, head: str, width: int | None = None) -> None:
        """Let `place` name `head` for `section`."""
        key = {"model": "build", "data": "source", "loss": "name"}[section]
        if place == "command line":
            self.request[section] = head
            if width is not None:
                self.request["model_kwargs"] = {"width": width}
            return
        kwargs = "" if width is None else f"kwargs = {{ width = {width} }}\n"
        text = f'[{section}]\n{key} = "{head}"\n{kwargs}'
        if place == "embedded":
            sections = self.request.setdefault("embedded", {})
            assert isinstance(sections, dict)
            sections[section] = {key: head}
            if width is not None:
                sections[section]["kwargs"] = {"width": width}
            return
        path = {
            "--problem": self.here / "lab.toml",
            "beside": self.there / "ckpt.toml",
            "folder": self.there / "curvtool.toml",
            "working directory": self.here / "curvtool.toml",
        }[place]
        with path.open("a") as file:
            file.write(text)
        if place == "--problem":
            self.request["problem"] = Path("lab.toml")

    def load(self, *, trust: bool = False, folder: Path | None = None) -> LoadedProblem:
        """Save the checkpoint and load the problem."""
        path = (folder or self.there) / "ckpt.pt"
        request = dict(self.request)
        embedded = request.pop("embedded", None)
        weights = torch.nn.Linear(2, 1)
        if isinstance(embedded, dict):
            save_checkpoint(path, weights, problem=embedded)
        else:
            torch.save(weights.state_dict(), path)
        wanted = {"checkpoint": path, "working_directory": self.here, "trust": trust, **request}
        return load_problem(ProblemRequest(**wanted))  # type: ignore[arg-type]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def say_all(lab: Lab, place: str) -> None:
    for section, head in (("model", "build"), ("data", "dataset"), ("loss", "loss")):
        lab.say(place, section, f"hooks.py:{head}")


@pytest.mark.parametrize("rank", range(len(PLACES)))
def test_the_higher_place_decides(rank: int, lab: Lab) -> None:
    for place in PLACES[rank:]:
        # Only the deciding place names a width that the weights fit.
        lab.say(place, "model", "hooks.py:build", width=1 if place == PLACES[rank] else 2)
        for section in ("data", "loss"):
            lab.say(place, section, f"hooks.py:{'dataset' if section == 'data' else section}")
    problem = lab.load(trust=True)
    label = problem.spec.model.origin.label
    told = {
        "command line": "the command line",
        "--problem": "--problem lab.toml",
        "embedded": "the spec inside ckpt.pt",
        "beside": str(lab.there / "ckpt.toml"),
        "folder": str(lab.there / "curvtool.toml"),
        "working directory": "curvtool.toml",
    }
    assert label == told[PLACES[rank]]


def test_a_head_replaces_its_section_whole_and_other_keys_lay_over(lab: Lab) -> None:
    here = Origin("high", lab.here, trusted=True)
    there = Origin("low", lab.there, trusted=True)
    low = parse_spec(
        {
            "model": {"build": "mlp", "kwargs": {"sizes": [1], "bias": False}},
            "data": {"source": "npz:low.npz", "inputs": "a", "kwargs": {"root": "r", "k": 1}},
            "loss": {"name": "nll", "kwargs": {"ignore_index": 3}},
        },
        there,
    )
    high = parse_spec(
        {
            "model": {"kwargs": {"bias": True}},
            "data": {"batch_size": 7, "kwargs": {"root": "s"}},
            "loss": {"name": "mse"},
        },
        here,
    )
    spec: ProblemSpec = resolve([high, low], checkpoint=Path("c.pt"))
    assert spec.model.kwargs == {"sizes": [1], "bias": True}
    assert (spec.data.source, spec.data.inputs, spec.data.batch_size) == ("npz:low.npz", ("a",), 7)
    assert spec.data.kwargs == {"root": "s", "k": 1}
    assert spec.data.kwarg_bases == {"root": lab.here, "k": lab.there}
    assert (spec.loss.name, spec.loss.kwargs, spec.loss.origin) == ("mse", {}, here)
    assert spec.data.origin == there


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("section", ["model", "data", "loss"])
@pytest.mark.parametrize("place", PLACES)
def test_code_runs_only_for_places_that_the_user_chose(
    place: str, section: str, trust: bool, lab: Lab
) -> None:
    for other in {"model", "data", "loss"} - {section}:
        lab.say("command line", other, f"torchvision:none-{other}")
    lab.say(place, section, "hooks.py:dataset")
    chosen = place in {"command line", "--problem", "working directory"}
    with pytest.raises(InputError) as caught:  # of the trust, or of the parts that are not there
        lab.load(trust=trust)
    refused = "names Python code" in str(caught.value)
    assert refused == (not chosen and not trust)
    if refused:
        assert "--trust" in str(caught.value)
        assert "hooks.py:dataset" in str(caught.value)
        assert not lab.ran.exists()


@pytest.mark.parametrize("place", ["embedded", "beside", "folder"])
def test_with_trust_the_same_code_runs(place: str, lab: Lab) -> None:
    say_all(lab, place)
    refusal_of = pytest.raises(InputError, match="repeat the command with --trust")
    with refusal_of:
        lab.load()
    assert not lab.ran.exists()
    assert lab.load(trust=True).examples == 3
    assert lab.ran.read_text() == "ran\n"  # one file, imported once


def test_a_file_beside_a_checkpoint_in_the_working_directory_needs_no_flag(lab: Lab) -> None:
    say_all(lab, "working directory")
    (lab.here / "curvtool.toml").rename(lab.here / "ckpt.toml")
    assert lab.load(folder=lab.here).examples == 3


def test_untrusted_code_that_is_overruled_is_not_refused(lab: Lab) -> None:
    say_all(lab, "embedded")
    say_all(lab, "command line")
    assert lab.load().examples == 3


def test_a_stranger_gives_no_arguments_to_the_users_code(tmp_path: Path) -> None:
    stranger = parse_spec({"data": {"kwargs": {"root": "x"}}}, Origin("c.pt", tmp_path, False))
    user = Origin("curvtool.toml", tmp_path, trusted=True)
    rest = {"model": {"build": "mlp"}, "loss": {"name": "mse"}}
    hook = parse_spec({**rest, "data": {"source": "d.py:f"}}, user)
    refusal(
        lambda: resolve([stranger, hook], checkpoint=Path("c.pt")),
        came="gives arguments to Python code for the data: 'd.py:f'",
        remedy="--trust",
    )
    built_in = parse_spec({**rest, "data": {"source": "torchvision:LSUN"}}, user)
    spec = resolve([stranger, built_in], checkpoint=Path("c.pt"))
    assert (spec.data.origin.trusted, spec.model.origin.trusted) == (False, True)


def test_all_missing_parts_are_named_at_once_with_the_line_to_add(lab: Lab) -> None:
    lab.say("--problem", "data", "npz:a.npz")
    sentence = refusal(lab.load, came="missing: model, loss", remedy="[model]\n  build = ")
    assert "--model file.py:build --loss cross_entropy" in sentence
    assert '[loss]\n  name = "cross_entropy"' in sentence
    assert "Found: [data] in --problem lab.toml" in sentence
    assert "--data" not in sentence


def test_a_file_is_one_source_however_it_is_found(tmp_path: Path) -> None:
    (tmp_path / "curvtool.toml").write_text("")
    for stem in ("curvtool.pt", "other.pt"):
        assert len(found_sources(tmp_path / stem, tmp_path, trust=False)) == 1
