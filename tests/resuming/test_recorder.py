"""Runs that are killed and continued end with the bits of those that are not."""

from __future__ import annotations

import errno
import os
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from curvtool.algorithms.density.driver import density
from curvtool.algorithms.lanczos import lanczos
from curvtool.errors import Interrupted
from curvtool.operators.recorded import RecordedSum
from curvtool.operators.recording import fingerprint
from curvtool.resuming import recorder as recorder_module
from curvtool.storage.journal import Journal, records
from tests.conformance import LAWS, Law
from tests.objectives import truth
from tests.resuming import runs

KILLS = 6


@lru_cache
def expected(name: str) -> dict[str, Any]:
    make, solve = runs.RUNS[name]
    return runs.result(solve(make()))


def boundaries(name: str, folder: Path) -> int:
    make, solve = runs.RUNS[name]
    recorder, fate = runs.recorder(folder)
    found = solve(runs.attached(make(), recorder))
    recorder.close()
    assert runs.result(found) == expected(name)
    return fate.boundaries


def survive(name: str, folder: Path, moments: list[int], draw: random.Random, every: float) -> int:
    """Kill at the moments, one after the other, and go to the end; work done in all."""
    make, solve = runs.RUNS[name]
    made = 0
    for moment in [*moments, None]:
        kill = draw.random() < 0.5
        after = float("inf") if moment is None else moment
        recorder, fate = runs.recorder(folder, after=after, kill=kill, every=every)
        try:
            found = solve(runs.attached(make(), recorder))
        except (runs.Killed, Interrupted):
            continue
        finally:
            made += fate.boundaries
            recorder.close()
        assert runs.result(found) == expected(name)
        if moment is None:
            break
    return made


@pytest.mark.parametrize("name", runs.RUNS)
def test_a_run_killed_anywhere_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = boundaries(name, tmp_path / "whole")
    draw = random.Random(name)
    for trial in range(KILLS):
        folder = tmp_path / str(trial)
        folder.mkdir()
        moments = [draw.randint(1, whole) for _ in range(draw.randint(1, 3))]
        survive(name, folder, moments, draw, every=draw.choice([0.0, 1e-9, 1e9]))


@pytest.mark.parametrize("name", runs.RUNS)
def test_a_signal_loses_nothing(name: str, tmp_path: Path) -> None:
    """Ended at every boundary in turn, a run takes as many steps as one that is let alone."""
    make, solve = runs.RUNS[name]
    (tmp_path / "whole").mkdir()
    whole = boundaries(name, tmp_path / "whole")
    step = max(1, whole // 12)
    made = 0
    # Workers take smaller steps in every process's first products, until they know how long one is.
    workers = getattr(make(), "workers", None) is not None
    for _ in range((8 if workers else 1) * whole // step + 2):
        recorder, fate = runs.recorder(tmp_path, after=step, every=1e9)
        try:
            found = solve(runs.attached(make(), recorder))
        except Interrupted:
            continue
        finally:
            made += fate.boundaries
            recorder.close()
        assert runs.result(found) == expected(name)
        break
    else:
        pytest.fail("never came to an end")
    assert made == whole or workers


def test_a_kill_costs_one_product_where_every_product_is_saved(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    make, solve = runs.RUNS["lanczos"]
    recorder, fate = runs.recorder(tmp_path / "whole")
    solve(runs.attached(make(), recorder))
    recorder.close()
    batches = len(make().objective.active)
    products = recorder.count
    assert fate.boundaries == products * (batches + 1)
    killed, _ = runs.recorder(tmp_path, after=5 * (batches + 1) + 3, kill=True)
    with pytest.raises(runs.Killed):
        solve(runs.attached(make(), killed))
    killed.close()
    again, fate = runs.recorder(tmp_path)
    solve(runs.attached(make(), again))
    again.close()
    assert again.replayed >= 5
    assert fate.boundaries <= (products - 5) * (batches + 1)


@pytest.mark.parametrize("damage", ["cut", "bit"])
@pytest.mark.parametrize("name", ["lanczos-rest", "trace", "density", "diag"])
def test_a_damaged_state_costs_work_and_no_bits(name: str, damage: str, tmp_path: Path) -> None:
    make, solve = runs.RUNS[name]
    (tmp_path / "whole").mkdir()
    whole = boundaries(name, tmp_path / "whole")
    recorder, _ = runs.recorder(tmp_path, after=whole // 2)
    with pytest.raises(Interrupted):
        solve(runs.attached(make(), recorder))
    recorder.close()
    draw = random.Random(name)
    for path in sorted(tmp_path.glob("rank-*")):
        content = bytearray(path.read_bytes())
        if damage == "cut":
            del content[draw.randrange(len(content)) :]
        else:
            content[draw.randrange(len(content))] ^= 16
        path.write_bytes(content)
    survive(name, tmp_path, [], draw, every=0.0)


def test_other_options_are_served_as_far_as_they_agree(tmp_path: Path) -> None:
    said: list[str] = []
    make, solve = runs.RUNS["lanczos"]
    first, _ = runs.recorder(tmp_path)
    solve(runs.attached(make(), first))
    first.close()
    other = runs._changed(runs.EIGEN, k=5, basis=22)
    expected_ = runs.result(lanczos(make(), other))
    recorder, _ = runs.recorder(tmp_path)
    recorder._tell = said.append
    assert runs.result(lanczos(runs.attached(make(), recorder), other)) == expected_
    recorder.close()
    assert recorder.replayed >= 18  # both begin with the same vector, and no restart came yet
    (sentence,) = said
    assert f"of the saved state {recorder.replayed} records serve this run" in sentence


def test_another_seed_is_not_served(tmp_path: Path) -> None:
    make, solve = runs.RUNS["density"]
    first, _ = runs.recorder(tmp_path, after=30)
    with pytest.raises(Interrupted):
        solve(runs.attached(make(), first))
    first.close()
    # Keys of sections do not hold the seed, which the request does; vectors show it.
    other = runs._changed(runs.EIGEN, seed=4)
    recorder, _ = runs.recorder(tmp_path)
    found = lanczos(runs.attached(make(), recorder), other)
    recorder.close()
    assert runs.result(found) == runs.result(lanczos(make(), other))
    assert recorder.replayed == 0


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_recorded_operator_obeys_every_law(law: Law, tmp_path: Path) -> None:
    inner = runs.with_rest()
    recorder, _ = runs.recorder(tmp_path)
    law(RecordedSum(inner, recorder), truth("tanh"))
    recorder.close()
    again, fate = runs.recorder(tmp_path)
    law(_served(inner, again), truth("tanh"))
    again.close()
    assert again.replayed == recorder.count
    assert fate.boundaries == 0


def _served(inner: Any, recorder: Any) -> RecordedSum:
    """One that could make no product."""

    def refuse(*_: object) -> torch.Tensor:
        raise AssertionError("a product was made anew")

    operator = RecordedSum(inner, recorder)
    mute = type("Mute", (), {"size": inner.size, "dtype": inner.dtype, "device": inner.device})()
    mute.matvec = mute.term = refuse
    operator.inner = mute
    return operator


def test_a_trace_saves_no_vectors(tmp_path: Path) -> None:
    make, solve = runs.RUNS["trace-halved"]
    operator = make()
    recorder, _ = runs.recorder(tmp_path)
    found = solve(runs.attached(operator, recorder))
    recorder.close()
    kinds = [(r.kind, r.bytes) for r in records(tmp_path / "rank-0.0.journal")]
    assert len(kinds) == found.hvps
    each = 8 * operator.num_terms * (2 + len(runs.LAYERS)) + 8 * (1 + len(runs.LAYERS))
    assert all(kind == "section" and size <= each for kind, size in kinds)


def test_a_density_keeps_the_vectors_of_one_probe(tmp_path: Path) -> None:
    make, _ = runs.RUNS["density"]
    recorder, _ = runs.recorder(tmp_path)
    found = density(runs.attached(make(), recorder), runs._changed(runs.DENSITY, deflate=0))
    recorder.close()
    assert [r.kind for r in records(tmp_path / "rank-0.0.journal")] == ["section"] * 3
    assert not (tmp_path / "rank-0.1.journal").exists()
    assert found.hvps == 21


def test_what_cannot_be_saved_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Journal) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Journal, "write", refuse)
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 3000)
    said: list[str] = []
    make, solve = runs.RUNS["lanczos"]
    recorder, _ = runs.recorder(tmp_path, every=1e9)
    recorder._tell = said.append
    assert runs.result(solve(runs.attached(make(), recorder))) == expected("lanczos")
    recorder.close()
    assert len(said) == 2
    assert "No space left on device" in said[0]
    assert "nothing is saved any more" in said[1]
    assert not list(tmp_path.glob("*.journal"))


def test_fingerprints_tell_bits_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (0, 1, 7, 1023, 1024, 2048, 5001):
        v = torch.randn(size, generator=generator, dtype=torch.float32)
        seen = {fingerprint(v), fingerprint(v.double()), fingerprint(v[None])}
        assert len(seen) == 3
        assert fingerprint(v.clone()) == fingerprint(v) == fingerprint(torch.stack([v, v], 1)[:, 0])
        for place in {0, size // 2, size - 1} if size else set():
            other = v.clone()
            other.view(torch.int32)[place] ^= 1
            assert fingerprint(other) != fingerprint(v)
        if size > 2048:
            swapped = v.clone()
            swapped[[0, 2048]] = swapped[[2048, 0]]  # the same column, another row
            assert fingerprint(swapped) != fingerprint(v)
