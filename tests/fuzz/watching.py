"""What a process may not do while it reads a stranger's file, seen by Python's audit hook."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType

from tests.fuzz.pickles import MODULE

# Of files whose code may run: Python's own, what is installed, and this repository.
_OURS = tuple(
    str(Path(place))
    for place in {
        *(sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()),
        str(Path(__file__).parents[2]),
    }
)
_PICKLES = ("pickle.py", "_weights_only_unpickler.py", "serialization.py", "restricted.py")
_NEVER = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("subprocess.Popen", "socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "shutil.rmtree", "shutil.move", "shutil.copyfile"),
    *(
        "tempfile.mkstemp",
        "tempfile.mkdtemp",
        "webbrowser.open",
        "pickle.find_class",
        "code.__new__",
    ),
)
_ALLOWED_WRITES = frozenset({os.devnull})

seen: list[str] = []
_watching = False


def watch(on: bool) -> None:
    """Begin or end to note what is forbidden, in `seen`."""
    global _watching  # an audit hook cannot be taken off again
    _watching = on


def install() -> None:
    """Add the hook; for the life of the process."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    if event in _NEVER:
        _note(event, arguments)
    elif event == "open":
        path, mode, flags = arguments
        writes = bool(int(flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))  # type: ignore[call-overload]
        writes = writes or (isinstance(mode, str) and bool(set(mode) & set("wax+")))
        if writes and path not in _ALLOWED_WRITES and not isinstance(path, int):
            _note(event, arguments)
    elif event == "import":
        if str(arguments[0]).split(".")[0] in {MODULE, "hooks", "modeling"}:
            _note(event, arguments[:1])
    elif event == "exec":
        code = arguments[0]
        if isinstance(code, CodeType) and not _is_ours(code, sys._getframe(1)):
            _note(event, (code.co_filename, sys._getframe(1).f_code.co_filename))


def _is_ours(code: CodeType, caller: FrameType) -> bool:
    """Whether code that is about to run is of an installed file, or made by one."""
    name = code.co_filename
    if name.startswith((*_OURS, "<frozen")):
        return True
    made = name.startswith("<") or not name.startswith("/")
    by = caller.f_code.co_filename
    return made and by.startswith((*_OURS, "<")) and not by.endswith(_PICKLES)


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if len(seen) < 20:
        seen.append(f"{event}{arguments!r:.200}")
