"""The rooms and their walls: imports go down only, and each room alone knows its own library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "curvtool"

# Room -> rooms whose names it may use. Files directly in the package are rooms of their own.
MAY_USE: dict[str, set[str]] = {
    "__init__": {"problem", "operators"},
    "__main__": {"cli", "errors"},
    "cli": {
        "pipeline",
        "distributed",
        "config",
        "problem",
        "resuming",
        "storage",
        "report",
        "results",
        "errors",
    },
    "pipeline": {
        "algorithms",
        "config",
        "distributed",
        "environment",
        "errors",
        "operators",
        "problem",
        "results",
        "resuming",
    },
    "resuming": {"operators", "distributed", "storage", "results", "errors"},
    "algorithms": {"operators", "distributed", "random_vectors", "results", "errors"},
    "operators": {"problem", "distributed", "random_vectors", "results", "errors"},
    "problem": {"distributed", "errors"},
    "distributed": {"errors"},
    "storage": {"results", "errors"},
    "report": {"results"},
    "config": {"errors"},
    "environment": set(),
    "random_vectors": set(),
    "results": set(),
    "errors": set(),
}
# Library -> rooms that may import it.
OWNERS: dict[str, set[str]] = {
    "h5py": {"storage", "problem"},
    "typer": {"cli"},
    "rich": {"report", "cli"},
    "submitit": {"cli"},
    "torchvision": {"problem"},
    "transformers": {"problem"},
    "timm": {"problem"},
    "safetensors": {"problem"},
    "scipy": {"operators", "algorithms"},
    "torch": {
        "problem",
        "operators",
        "algorithms",
        "distributed",
        "pipeline",
        "environment",
        "resuming",
        "random_vectors",
    },
}
# Rooms that the algorithms must not see although they are below them.
OPERATOR_FILES_FOR_ALGORITHMS = {
    "curvtool.operators.base",
    "curvtool.operators.adapters",
    "curvtool.operators.recording",
}
MOST_LINES = 400

FILES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere, type checking included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            assert node.module
            names.add(node.module)
            if node.module == "curvtool":
                names.update(f"curvtool.{alias.name}" for alias in node.names)
    return names


@pytest.fixture(scope="module")
def imports() -> dict[Path, set[str]]:
    """Every file of the package with the names that it imports."""
    return {path: _imports(path) for path in FILES}


def _faults(room: str, name: str) -> Iterator[str]:
    """What is wrong with a file of that room importing a module of that name."""
    parts = name.split(".")
    if parts[0] == "curvtool" and len(parts) > 1 and parts[1] not in {room} | MAY_USE[room]:
        yield f"{room} may not use {name}"
    if parts[0] in OWNERS and room not in OWNERS[parts[0]]:
        yield f"{room} may not import {parts[0]}"
    is_operator = name.startswith("curvtool.operators")
    if room == "algorithms" and is_operator and name not in OPERATOR_FILES_FOR_ALGORITHMS:
        yield f"an algorithm may not know {name}"


def test_imports_go_down_only(imports: dict[Path, set[str]]) -> None:
    new = set(map(_room, imports)) - MAY_USE.keys()
    assert not new, f"new rooms {new}: give them a place in MAY_USE"
    found = [
        f"{path.relative_to(PACKAGE)}: {fault}"
        for path, names in imports.items()
        for name in sorted(names)
        for fault in _faults(_room(path), name)
    ]
    assert not found


def test_the_rooms_have_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(MAY_USE):
        ready = {r for r, uses in MAY_USE.items() if r not in done and uses <= done}
        assert ready, f"a circle among {set(MAY_USE) - done}"
        done |= ready


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_two_files_import_each_other(imports: dict[Path, set[str]]) -> None:
    graph = {
        _module(path): {name for name in names if name.startswith("curvtool.")}
        for path, names in imports.items()
    }
    left = {m: uses & graph.keys() - {m} for m, uses in graph.items()}
    while left:
        leaves = {m for m, uses in left.items() if not uses & left.keys()}
        assert leaves, f"a circle among {sorted(left)}"
        left = {m: uses for m, uses in left.items() if m not in leaves}


def test_a_file_holds_one_idea() -> None:
    lines = {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in FILES}
    assert not {path: count for path, count in lines.items() if count > MOST_LINES}


def test_the_config_asks_for_the_basis_that_the_solver_needs() -> None:
    from curvtool.algorithms.proving import SPARE_ROWS
    from curvtool.config import BASIS_ABOVE_K

    assert BASIS_ABOVE_K == SPARE_ROWS
