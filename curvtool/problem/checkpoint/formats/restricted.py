"""An unpickler that imports nothing: every class in a pickle becomes an inert mark.

It is Python's own in Python, not in C: that one makes room for as many memo entries as a number in
the file says, and this one has a dictionary. Opcodes that reserve memory by a number in the file,
or that reach for registered extensions and buffers, are taken out.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar, cast

_REFUSED = (
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


class TooDeep(pickle.UnpicklingError):
    """Tuples in tuples without end: hashing one overruns the stack of the process (torch 2.14)."""


class NotAllowed(pickle.UnpicklingError):
    """A pickle asks for a class that may not even be marked; its text is the dotted name."""


class Inert:
    """What stands for an object of a class that is never imported.

    Attributes:
        name: the class's dotted name, set on subclasses.
        arguments: what it was called with.
        state: what its attributes were to be.
    """

    name: ClassVar[str] = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any, **_: Any) -> Inert:
        """Remember the arguments, and do nothing with them."""
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, _: Any) -> None:
        """Take an item, as a list would, and forget it."""

    def extend(self, _: Any) -> None:
        """Take items, as a list would, and forget them."""

    def add(self, _: Any) -> None:
        """Take an item, as a set would, and forget it."""

    def __setitem__(self, _: Any, __: Any) -> None:
        pass


def inert(name: str) -> type[Inert]:
    """A class of marks for the class or function `name`."""
    return type("Inert", (Inert,), {"name": name})


_TUPLES = (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
_DEEPEST = 500  # plain tuple types that files nest: three or four


def _measured(step: Callable[[pickle.Unpickler], None]) -> Callable[[Any], None]:
    """A step that makes a tuple, and then looks how deep it is."""

    def make(self: RestrictedUnpickler) -> None:
        step(cast(pickle.Unpickler, self))  # as the stubs have it
        self.measure(cast(Any, self).stack[-1])

    return make


class RestrictedUnpickler(pickle._Unpickler):
    """Builds plain containers, what `known` makes, and marks for the rest.

    Args:
        file: the pickle.
        known: by the dotted names that the pickle calls them by: types of Python's core and values
            that no pickle can change, since a pickle may set attributes of what it finds.
        allowed: whether a mark may stand for the class of a dotted name.
        persistent: makes the objects that the pickle stores elsewhere.
    """

    dispatch: ClassVar[dict[int, Callable[[pickle.Unpickler], None]]] = {
        code: step
        for code, step in pickle._Unpickler.dispatch.items()
        if code not in {refused[0] for refused in _REFUSED}
    } | {code[0]: _measured(pickle._Unpickler.dispatch[code[0]]) for code in _TUPLES}

    def __init__(
        self,
        file: IO[bytes],
        *,
        known: Mapping[str, Any],
        allowed: Callable[[str], bool],
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(file)
        self._known = known
        self._allowed = allowed
        self._persistent = persistent
        self._marks: dict[str, type[Inert]] = {}
        self._depths: dict[int, int] = {}

    def measure(self, made: tuple[Any, ...]) -> None:
        """Note the depth of a tuple.

        Args:
            made: the tuple.

        Raises:
            TooDeep: for one that no file needs.
        """
        # By id: what has been freed since may only make a tuple seem deeper than it is.
        inner = [self._depths.get(id(item), 0) for item in made if type(item) is tuple]
        depth = self._depths[id(made)] = 1 + max(inner, default=0)
        if depth > _DEEPEST:
            raise TooDeep(f"tuples {depth} deep")

    def find_class(self, module: str, name: str) -> Any:
        """Never an import.

        Args:
            module: as the pickle has it.
            name: likewise.

        Returns:
            What `known` has under the dotted name, or a class of marks.

        Raises:
            NotAllowed: for a name that may not even be marked.
        """
        dotted = f"{module}.{name}"
        if dotted in self._known:
            return self._known[dotted]
        if not self._allowed(dotted):
            raise NotAllowed(dotted)
        return self._marks.setdefault(dotted, inert(dotted))

    def persistent_load(self, pid: Any) -> Any:
        """What the pickle stores elsewhere.

        Args:
            pid: its name.

        Returns:
            What `persistent` makes of it.

        Raises:
            pickle.UnpicklingError: where nothing may be stored elsewhere.
        """
        if self._persistent is None:
            raise pickle.UnpicklingError("a part that is stored elsewhere")
        return self._persistent(pid)
