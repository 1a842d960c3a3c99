"""What a case is: a folder of files, good but for what was done to one of them, and a command."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from tests.fuzz.mutating import damaged

GOOD = -1  # number of the case that nothing is done to


@final
@dataclass(frozen=True)
class Link:
    """A symbolic link, in the place of a file."""

    target: str


Tree = dict[str, "bytes | Link"]
# Changes the tree; `canary` is the file that code in it would leave. Returns what was done.
Spoil = Callable[[Tree, random.Random, Path], str]


@final
@dataclass(frozen=True, eq=False)
class Format:
    """A kind of input with good files, a command that takes them, and ways to spoil them.

    Attributes:
        name: unique.
        arguments: of `curvtool check`, run in the folder.
        files: by path in the folder.
        spoils: the ways; each is as likely.
        runs: whether the command runs code of the folder, so that the server itself does not.
    """

    name: str
    arguments: tuple[str, ...]
    files: Mapping[str, bytes]
    spoils: tuple[Spoil, ...]
    runs: bool = False

    def case(self, seed: int, number: int, canary: Path) -> tuple[Tree, str]:
        """The files of one case, and what was done to them; the same for the same numbers."""
        tree: Tree = dict(self.files)
        if number == GOOD:
            return tree, "nothing"
        rng = random.Random(f"{self.name}:{seed}:{number}")
        return tree, rng.choice(self.spoils)(tree, rng, canary)


def write(tree: Tree, folder: Path) -> None:
    """Put the files of a case on the disk."""
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            os.symlink(content.target, path)
        else:
            path.write_bytes(content)


def read(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their paths in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def at_bytes(*names: str) -> Spoil:
    """Damages the bytes of one of the files."""

    def spoil(tree: Tree, rng: random.Random, _: Path) -> str:
        name = rng.choice(names)
        tree[name] = damaged(content_of(tree, name), rng)
        return f"damaged {name}"

    return spoil


def gone_or_elsewhere(*names: str) -> Spoil:
    """Takes a file away, or puts a folder, a link or another file in its place."""

    def spoil(tree: Tree, rng: random.Random, _: Path) -> str:
        name = rng.choice(names)
        content = tree.pop(name)
        what = rng.choice(("gone", "folder", "link out", "loop", "link in", "another", "renamed"))
        if what == "folder":
            tree[f"{name}/inside"] = b"x"
        elif what == "link out":
            tree[name] = Link(rng.choice(("/etc/passwd", "../outside", "/dev/zero", "/dev/null")))
        elif what == "loop":
            tree[name] = Link(Path(name).name)
        elif what == "link in":
            tree[f"{name}.real"], tree[name] = content, Link(f"{Path(name).name}.real")
        elif what == "another" and tree:
            tree[name] = rng.choice(list(tree.values()))
        elif what == "renamed":
            tree[f"{name}.old"] = content
        return f"{what}: {name}"

    return spoil


def replaced(name: str, make: Callable[[bytes, random.Random, Path], bytes], what: str) -> Spoil:
    """Makes a file anew of its content."""

    def spoil(tree: Tree, rng: random.Random, canary: Path) -> str:
        tree[name] = make(content_of(tree, name), rng, canary)
        return f"{what} in {name}"

    return spoil


def content_of(tree: Tree, name: str) -> bytes:
    """The bytes of a file that no one has made a link."""
    content = tree[name]
    assert isinstance(content, bytes)
    return content
