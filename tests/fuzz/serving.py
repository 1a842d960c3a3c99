"""Runs cases in forked workers under limits, and judges how each ended.

    python -m tests.fuzz.serving --family checkpoints --cases 20 --seed 0

writes one line of JSON for each format. Torch and curvtool are imported once; each batch of cases
has a process of its own, which a case may take with it, and the case is then known.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from tests.fuzz import watching
from tests.fuzz.cases import GOOD, Format, write
from tests.fuzz.pickles import MODULE

# Beyond what the process has mapped when a batch begins. --memory of all cases is 64 MiB.
HEADROOM = 1024 * 2**20
# For one case: of computing, and by the clock, which a busy machine lets run on.
SECONDS = 20
MOST_SECONDS = 200
BATCH = 50
# One case in so many runs the whole command; the others stop once the loss is known.
WHOLE = 25
_ENDS = {0, 3, 4, 5}
REFUSED = {"torchscript", "pt2"}  # without --trust
_MOST_SAID = 20_000  # characters


@final
@dataclass
class Tally:
    """How the cases of a format ended.

    Attributes:
        format: its name.
        cases: how many.
        ends: by exit code.
        seconds: that they took.
        defects: a line for each case that broke a rule.
    """

    format: str
    cases: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    defects: list[str] = field(default_factory=list)

    def add(self, number: int, what: str, end: dict[str, Any]) -> None:
        """Take in one case."""
        self.cases += 1
        code = str(end["code"])
        self.ends[code] = self.ends.get(code, 0) + 1
        self.seconds += end.get("seconds", 0.0)
        self.defects += [f"{self.format} #{number} ({what}): {said}" for said in end["defects"]]


def run_format(form: Format, numbers: Sequence[int], seed: int, folder: Path) -> Tally:
    """Run cases of one format.

    Args:
        form: the format.
        numbers: of the cases.
        seed: of them all.
        folder: where their files are written, one case at a time.

    Returns:
        How they ended.
    """
    tally = Tally(form.name)
    if not form.runs:  # and import all that is imported late
        tally.add(GOOD, "nothing", run_case(form, GOOD, seed, folder))
    waiting = list(numbers)
    while waiting:
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        done = 0
        for number, what, end in _in_a_worker(form, batch, seed, folder):
            tally.add(number, what, end)
            done += 1
        waiting = batch[done:] + waiting
    return tally


def _in_a_worker(
    form: Format, numbers: Sequence[int], seed: int, folder: Path
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The ends of cases, up to the first that took the process with it."""
    source, sink = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(source)
        code = 1
        try:
            _work(form, numbers, seed, folder, sink)
            code = 0
        finally:
            os._exit(code)
    os.close(sink)
    with open(source, encoding="utf-8") as lines:
        ends = [json.loads(line) for line in lines if line.endswith("\n")]
    _, status = os.waitpid(pid, 0)
    for number, end in zip(numbers, ends, strict=False):
        yield number, form.case(seed, number, folder / "canary")[1], end
    if len(ends) < len(numbers):
        number = numbers[len(ends)]
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "exit"
        slow = how in {"SIGALRM", "SIGPROF"}
        why = f"took more than {SECONDS} s" if slow else f"ended the process by {how}"
        what = form.case(seed, number, folder / "canary")[1]
        yield number, what, {"code": how, "defects": [why]}


def _work(form: Format, numbers: Sequence[int], seed: int, folder: Path, sink: int) -> None:
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watching.install()
    for case in numbers:
        end = run_case(form, case, seed, folder)
        os.write(sink, (json.dumps(end) + "\n").encode())


def run_case(form: Format, number: int, seed: int, folder: Path) -> dict[str, Any]:
    """Write the files of a case, run its command in this process, and judge how it ended."""
    canary, place = folder / "canary", folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    canary.unlink(missing_ok=True)
    tree, _ = form.case(seed, number, canary)
    place.mkdir()
    write(tree, place)
    os.chdir(place)
    before = _names(place)
    whole = number == GOOD or number % WHOLE == WHOLE - 1
    out, err = io.StringIO(), io.StringIO()
    del watching.seen[:]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(MOST_SECONDS)
    began = time.perf_counter()
    watching.watch(True)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: object = _command(form, whole=whole)
    except BaseException as error:  # noqa: BLE001  # the command line lets nothing through
        code = f"{type(error).__name__}: {error}"
    finally:
        watching.watch(False)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    seconds = time.perf_counter() - began
    defects = list(_defects(code, out.getvalue(), err.getvalue(), whole=whole))
    if number == GOOD and code != 0 and form.name not in REFUSED:
        defects.append(f"is refused though nothing was done to it: {err.getvalue()}")
    defects += [f"did {event}" for event in watching.seen]
    if canary.exists() or (canary.parent / "outside").exists():
        defects.append("code ran: the canary is there")
    if _names(place) != before:
        defects.append(f"wrote {sorted(_names(place) ^ before)}")
    return {"code": code, "seconds": seconds, "defects": defects, "said": err.getvalue()[-2000:]}


def _names(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def _command(form: Format, *, whole: bool) -> int:
    import curvtool.pipeline
    from curvtool.cli.app import run

    kept = curvtool.pipeline.run_check
    if not whole:
        curvtool.pipeline.run_check = _loss_only
    try:
        return run(["check", *form.arguments, "-q"])
    finally:
        curvtool.pipeline.run_check = kept


def _loss_only(config: Any, loaded: Any, **_: Any) -> Any:
    """In the place of the checks and the plan, which take most of the time and read no file."""
    import typer

    from curvtool.pipeline.preparing import opened_whole
    from curvtool.pipeline.resources import computing

    with computing():
        objective, _memory = opened_whole(config, loaded)
        objective.evaluate()
    raise typer.Exit(0)


def _defects(code: object, out: str, err: str, *, whole: bool) -> Iterator[str]:
    if code not in _ENDS:
        yield f"ended with {code}: {err[-1500:]}"
    elif "Traceback" in err:
        yield f"showed a traceback: {err[-1500:]}"
    if code == 4:
        sentences = err.count("curvtool: ")
        if sentences != 1 or not err.startswith("curvtool: "):
            yield f"said {sentences} sentences: {err[:500]}"
        if not err.rstrip().endswith((".", "?", "'", ")", '"')) and "\n" not in err.rstrip():
            yield f"ended in no full stop: {err[-200:]}"
        if out:
            yield f"printed {out[:200]}"
        if "there was not enough" in err or "bad alloc" in err or "can't allocate" in err:
            yield f"ran out of memory: {err[:500]}"
    if len(err) > _MOST_SAID:
        yield f"said {len(err):,} characters"
    strange = {c for c in out + err if not c.isprintable() and c != "\n"}
    if strange:
        yield f"wrote {sorted(strange)!r:.100} to the terminal: {err[:300]!r}"
    if code == 0 and whole and "loss" not in out:
        yield f"printed no report: {out[:200]}"


def families() -> dict[str, Callable[[], list[Format]]]:
    """The formats by what they are formats of."""
    from tests.fuzz import checkpoints, datasets, harm, problem_files

    return {
        "checkpoints": checkpoints.formats,
        "data": datasets.formats,
        "problem files": problem_files.formats,
        "harm": harm.formats,
    }


def main() -> None:
    """Run the cases that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", required=True)
    parser.add_argument("--format")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="say what each case said")
    arguments = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    sys.dont_write_bytecode = True
    import torch

    torch.set_num_threads(1)
    import curvtool.pipeline  # noqa: F401  # once for all workers

    numbers = range(arguments.first, arguments.first + arguments.cases)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modules = folder / "modules"
        modules.mkdir()
        canary = str(folder / "canary")
        (modules / f"{MODULE}.py").write_text(
            f"open({canary!r}, 'w').close()\n\n\ndef run(*_, **__):\n    return None\n"
        )
        sys.path.append(str(modules))
        for form in families()[arguments.family]():
            if arguments.format not in {None, form.name}:
                continue
            if arguments.show:
                _show(form, numbers, arguments.seed, folder)
                continue
            tally = run_format(form, numbers, arguments.seed, folder)
            print(json.dumps(asdict(tally)), flush=True)  # noqa: T201  # the result
        os.chdir("/")


def _show(form: Format, numbers: Sequence[int], seed: int, folder: Path) -> None:
    """Each case with all that it said, in a process of its own."""
    for number in numbers:
        for _, what, end in _in_a_worker(form, [number], seed, folder):
            print(f"{form.name} #{number} ({what}): {end}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
