"""Python code of the user: `file.py:name` and `package.module:name`.

As under `python file.py`, a hook finds modules that lie beside it: first of all while its file is
imported and while it is called, so that two folders may each have their own `utils.py`; after
everything else later on, for imports inside a model's `forward` or a dataset's rows.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from curvtool.errors import HookError, InputError
from curvtool.problem.spec import Origin
from curvtool.problem.wording import did_you_mean, first_line, kind_of, listed, misfit_of_kwargs

# Prefixes that are formats: no module of a user is looked up there.
RESERVED = frozenset({
    *("torchvision", "npz", "npy", "imagefolder", "csv", "parquet", "arrow", "hdf5"),
    *("safetensors", "pt", "text", "hf", "webdataset"),
    "timm",
})

_files: dict[Path, ModuleType] = {}
_siblings: dict[Path, dict[str, ModuleType]] = {}


@dataclass(frozen=True, eq=False)
class Hook:
    """A function of the user.

    Attributes:
        label: as the spec names it, e.g. "models.py:build".
        function: the function itself; `call` is the way to run it.
        folder: where its siblings are found.
        origin: the place that named it.
    """

    label: str
    function: Callable[..., Any]
    folder: Path
    origin: Origin

    def call(self, *args: object, **kwargs: object) -> Any:
        """Run the function with its siblings importable.

        Args:
            *args: handed on.
            **kwargs: handed on.

        Returns:
            What the function returns.

        Raises:
            HookError: caused by whatever the function raised, unless it is an `InputError` or
                the want of memory: those come through.
        """  # noqa: DOC501  # hook_error is not itself an exception
        with _siblings_importable(self.folder):
            try:
                return self.function(*args, **kwargs)
            except (InputError, MemoryError, torch.OutOfMemoryError):
                raise
            except (Exception, SystemExit) as error:
                raise hook_error(self.label, error) from error

    def check_kwargs(
        self, kwargs: Mapping[str, object], option: str, *, positional: int = 0
    ) -> None:
        """Hold `kwargs` against the signature.

        Args:
            kwargs: what the function is to be called with.
            option: the option that sets them, for the message.
            positional: how many arguments come before them.

        Raises:
            InputError: for an argument that the function does not have, or lacks.
        """
        misfit = misfit_of_kwargs(self.function, kwargs, positional=positional)
        if misfit:
            raise InputError(
                f"{self.origin.label}: expected arguments that {self.label} has; got "
                f"{_call_text(kwargs)}: {misfit} Set its arguments by {option} key=value, or by "
                f"kwargs in the problem file."
            )


def hook_error(label: str, error: BaseException) -> HookError:
    """The sentence that follows the user's own traceback."""
    return HookError(
        f"{label} was expected to run; it raised {type(error).__name__}: {first_line(error)}. "
        f"The traceback above shows where; correct that code."
    )


def is_hook(head: str) -> bool:
    """Whether `head` names Python code rather than something built in."""
    place, colon, name = head.rpartition(":")
    return bool(colon and place and name) and head.partition(":")[0] not in RESERVED


def refuse_untrusted(part: str, head: str, origin: Origin, *, does: str = "names") -> None:
    """Refuse code that a place has a say in whose code may not run.

    Args:
        part: "model", "data" or "loss".
        head: what is to make that part.
        origin: the place.
        does: what the place does with the code, for the message.

    Raises:
        InputError: for a hook where the origin is not trusted.
    """
    if origin.trusted or not is_hook(head):
        return
    raise InputError(
        f"{origin.label} was expected to keep to built-in things, since it came with a checkpoint, "
        f"and loading a checkpoint must not run its author's code; it {does} Python code for the "
        f"{part}: {head!r}. Read that code, and if you trust it, repeat the command with --trust, "
        f"or name it yourself: --{part} {head}."
    )


def load_hook(part: str, head: str, origin: Origin) -> Hook:
    """Import the code that `head` names.

    Args:
        part: "model", "data" or "loss", for messages.
        head: "file.py:name" (absolute, or relative to the origin) or "package.module:name".
        origin: the place that names it; it must be trusted.

    Returns:
        The function, not yet called.

    Raises:
        InputError: where the origin is not trusted, or file, module or attribute is not there
            or cannot be called.
    """
    refuse_untrusted(part, head, origin)
    place, _, name = head.rpartition(":")
    if place.endswith(".py"):
        path = (origin.base / place).resolve()
        module, folder = _file_module(path, head, origin), path.parent
    else:
        module, folder = _named_module(place, head, origin), origin.base.resolve()
    function = module
    for attribute in name.split("."):
        try:
            function = getattr(function, attribute)
        except AttributeError as error:
            known = [n for n in vars(module) if callable(getattr(module, n)) and n[0] != "_"]
            raise InputError(
                f"{origin.label}: expected {place} to have a function {name!r} for the {part}; it "
                f"has {listed(known) or 'none'}.{did_you_mean(name, known)} Correct the name "
                f"after the colon."
            ) from error
    if not callable(function):
        raise InputError(
            f"{origin.label}: expected {head} to be a function; it is {kind_of(function)}. Name "
            f"the function that makes the {part}."
        )
    return Hook(head, function, folder, origin)


def _file_module(path: Path, head: str, origin: Origin) -> ModuleType:
    if path in _files:
        return _files[path]
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise InputError(
            f"{origin.label}: expected the Python file of {head!r} at {path}; there is none."
            f"{did_you_mean(path.name, beside)} Correct the path: it is relative to "
            f"{origin.base.resolve()}."
        )
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    unique = f"curvtool_hook_{digest}_{path.stem}"
    spec = importlib.util.spec_from_file_location(unique, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module  # dataclasses and pickle look a class's module up there
    try:
        with _siblings_importable(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[unique]
        raise hook_error(str(path.name), error) from error
    _files[path] = module
    return module


def _named_module(place: str, head: str, origin: Origin) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        raise InputError(
            f"{origin.label}: expected a hook as file.py:name or package.module:name; got "
            f"{head!r}. Give the path of a file that ends in .py, or a module by its dotted name."
        )
    folder = origin.base.resolve()
    try:
        with _siblings_importable(folder):
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place == error.name or place.startswith(error.name + ".")):
            raise hook_error(place, error) from error
        raise InputError(
            f"{origin.label}: expected the module of {head!r}; there is no module "
            f"{error.name!r} in {folder} or among the installed packages."
            f"{did_you_mean(place, RESERVED)} For a file, write {place.replace('.', '/')}.py:"
            f"{head.rpartition(':')[2]}."
        ) from error
    except (Exception, SystemExit) as error:
        raise hook_error(place, error) from error


@contextmanager
def _siblings_importable(folder: Path) -> Iterator[None]:
    """Put `folder` first on the path, with its own siblings loaded and those of others hidden."""
    before = set(sys.modules)
    others = {
        name: module
        for owner, modules in _siblings.items()
        if owner != folder
        for name, module in modules.items()
        if sys.modules.get(name) is module
    }
    for name in others:
        del sys.modules[name]
    sys.modules.update(_siblings.get(folder, {}))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        mine = _siblings.setdefault(folder, {})
        loaded_before = before - others.keys()
        for name in set(sys.modules) - loaded_before:
            # A part of a package that was there before, such as ours, is no sibling.
            if name.partition(".")[0] not in loaded_before and _lies_in(folder, name):
                mine[name] = sys.modules[name]
        for name, module in others.items():
            sys.modules.setdefault(name, module)


def _lies_in(folder: Path, name: str) -> bool:
    """Whether module `name` belongs to a file or package directly inside `folder`."""
    top = sys.modules.get(name.partition(".")[0])
    places = [getattr(top, "__file__", None), *getattr(top, "__path__", [])]
    wanted = {folder / f"{name.partition('.')[0]}.py", folder / name.partition(".")[0]}
    return any(Path(place) in wanted for place in places if place)


def _call_text(kwargs: Mapping[str, object]) -> str:
    return "(" + ", ".join(f"{key}={value!r}" for key, value in kwargs.items()) + ")"
