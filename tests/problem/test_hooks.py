"""Code of the user: found, imported once, its siblings with it, its errors as they were."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from curvtool.errors import HookError, InputError
from curvtool.problem.hooks import is_hook, load_hook
from curvtool.problem.spec import Origin
from tests.problem.sentences import refusal

unique = itertools.count()


@pytest.fixture(autouse=True)
def path_restored() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


def origin(folder: Path, *, trusted: bool = True) -> Origin:
    return Origin("lab.toml", folder, trusted)


def call(folder: Path, head: str) -> object:
    return load_hook("model", head, origin(folder)).call()


def test_a_file_knows_itself_and_is_imported_once(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "made = []\ndef f():\n    made.append(1)\n    return __file__, made"
    )
    first = call(tmp_path, "a.py:f")
    second = load_hook("data", str(tmp_path / "a.py:f"), origin(Path("/"))).call()
    assert first == second == (str(tmp_path / "a.py"), [1, 1])


def test_two_folders_each_have_their_own_siblings(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "helpers_of_hook.py").write_text(f"who = {name!r}")
        (folder / "late_helper_of_hook.py").write_text(f"who = {name!r}")
        (folder / "hook.py").write_text(
            "import helpers_of_hook\ndef f():\n    import late_helper_of_hook\n"
            "    return helpers_of_hook.who, late_helper_of_hook.who"
        )
    for name in ("one", "two", "one"):
        assert call(tmp_path / name, "hook.py:f") == (name, name)


def test_a_dataclass_and_a_class_method_work_as_hooks(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Made:\n    width: int = 3\n    @classmethod\n    def small(cls):\n"
        "        return cls(1).width"
    )
    assert call(tmp_path, "b.py:Made.small") == 1


def test_a_module_of_the_working_directory(tmp_path: Path) -> None:
    package = f"lab_package_{next(unique)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "made.py").write_text("def f(): return 5")
    assert call(tmp_path, f"{package}.made:f") == 5


def test_what_the_users_code_raises_is_kept_as_the_cause(tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text("def f(): raise KeyError('mine')")
    (tmp_path / "d.py").write_text("1 / 0")
    (tmp_path / "e.py").write_text("def f(:")
    (tmp_path / "g.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "h.py").write_text("import no_such_module_anywhere")
    for head, cause in [
        ("c.py:f", KeyError),
        ("d.py:f", ZeroDivisionError),
        ("e.py:f", SyntaxError),
        ("g.py:f", SystemExit),
        ("h.py:f", ModuleNotFoundError),
        ("h:f", ModuleNotFoundError),
    ]:
        with pytest.raises(HookError, match="correct that code") as caught:
            call(tmp_path, head)
        assert isinstance(caught.value.__cause__, cause)
    assert "KeyError: 'mine'" in str(hook_error_of(tmp_path, "c.py:f"))


def hook_error_of(folder: Path, head: str) -> HookError:
    with pytest.raises(HookError) as caught:
        call(folder, head)
    return caught.value


def test_a_file_that_failed_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "i.py"
    path.write_text("1 / 0")
    with pytest.raises(HookError):
        call(tmp_path, "i.py:f")
    path.write_text("def f(): return 'mended'")
    assert call(tmp_path, "i.py:f") == "mended"


def test_hooks_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("width = 3\ndef build(): ...")
    for head, came, remedy in [
        ("model.py:build", "there is none", 'Did you mean "models.py"?'),
        ("models.py:biuld", "it has build", 'Did you mean "build"?'),
        ("models.py:width", "it is int", "Name the function"),
        ("no_such.module:f", "no module 'no_such'", "no_such/module.py:f"),
        ("my folder/x:f", "'my folder/x:f'", "ends in .py"),
    ]:
        refusal(lambda head=head: call(tmp_path, head), came=came, remedy=remedy)  # type: ignore[misc]


def test_arguments_are_held_against_the_signature(tmp_path: Path) -> None:
    (tmp_path / "j.py").write_text("def f(width, *, depth=1): ...\ndef g(**kwargs): ...")
    hook = load_hook("model", "j.py:f", origin(tmp_path))
    for kwargs, came, remedy in [
        ({"widht": 3}, 'no argument "widht"', 'Did you mean "width"?'),
        ({}, '"width" is missing', "--model-kwargs key=value"),
    ]:
        with pytest.raises(InputError, match=remedy.replace("?", r"\?")) as caught:
            hook.check_kwargs(dict(kwargs), "--model-kwargs")
        assert came in str(caught.value)
    load_hook("model", "j.py:g", origin(tmp_path)).check_kwargs({"any": 1}, "--model-kwargs")


def test_no_code_is_imported_for_a_place_that_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "k.py").write_text("open('ran', 'w').close()\ndef f(): ...")
    with pytest.raises(InputError, match="--trust"):
        load_hook("model", "k.py:f", origin(tmp_path, trusted=False))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("file.py:f", True),
        ("a.b:f", True),
        ("C:/x.py:f", True),
        ("mlp", False),
        ("torchvision:resnet18", False),
        ("torchvision.models:resnet18", True),
        ("npz:file.py:f", False),
        ("file.py:", False),
    ],
)
def test_what_counts_as_code(head: str, expected: bool) -> None:
    assert is_hook(head) is expected
