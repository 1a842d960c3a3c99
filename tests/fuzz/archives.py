"""Zip and tar archives that lie: members that lead elsewhere, repeat, unfold or are not there."""

from __future__ import annotations

import functools
import io
import random
import stat
import tarfile
import warnings
import zipfile

from tests.fuzz.mutating import NAMES, damaged

BOMB = 64 * 2**20  # bytes that a member of a bomb unfolds into


def members_of(archive: bytes) -> dict[str, bytes]:
    """The members of a zip by name."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(members: dict[str, bytes], *, how: int = zipfile.ZIP_STORED) -> bytes:
    """A zip with right checksums, so that what is wrong inside is reached."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


def spoilt_zip(archive: bytes, rng: random.Random) -> bytes:
    """The archive, made again with one or two members changed, renamed, gone, twice or huge."""
    members = members_of(archive)
    name = rng.choice(list(members))
    what = rng.randrange(9)
    if what <= 1:
        members[name] = damaged(members[name], rng)
    elif what == 2:
        del members[name]
    elif what == 3:
        members[_name(rng)] = members.pop(name)
    elif what == 4:
        members[name] += rng.randbytes(rng.choice((1, 8, 4096)))
    elif what == 5:
        return _with_links(members, name, rng)
    elif what == 6:
        return zipped(members, how=zipfile.ZIP_DEFLATED)
    elif what == 7:
        return _bomb(archive, name)
    else:
        return _twice(members, name, rng)
    return zipped(members)


def _name(rng: random.Random) -> str:
    names = [n for n in NAMES if "\0" not in n and "\ud800" not in n]
    return rng.choice(("../../outside", "/tmp/outside", *names)) or "x"


def _with_links(members: dict[str, bytes], name: str, rng: random.Random) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for key, content in members.items():
            info = zipfile.ZipInfo(key)
            if key == name:
                info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                content = rng.choice((b"/etc/passwd", b"../../outside", content))
            archive.writestr(info, content)
    return sink.getvalue()


@functools.lru_cache(maxsize=64)
def _bomb(archive: bytes, name: str) -> bytes:
    return zipped(members_of(archive) | {name: bytes(BOMB)}, how=zipfile.ZIP_DEFLATED)


def _twice(members: dict[str, bytes], name: str, rng: random.Random) -> bytes:
    sink = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(sink, "w") as archive:
        warnings.simplefilter("ignore")  # of the name that is there twice, as is meant
        for key, content in members.items():
            archive.writestr(key, content)
        archive.writestr(name, damaged(members[name], rng))
    return sink.getvalue()


def spoilt_tar(archive: bytes, rng: random.Random) -> bytes:
    """The archive, made again with a member that is a link, a device, elsewhere, huge or gone."""
    sink = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        tarfile.open(fileobj=sink, mode="w") as new,
    ):
        infos = old.getmembers()
        chosen = rng.randrange(len(infos))
        what = rng.randrange(6)
        for number, info in enumerate(infos):
            content = old.extractfile(info)
            body = b"" if content is None else content.read()
            if number == chosen:
                if what == 0:
                    info.type = rng.choice((
                        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
                        *(tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE, b"Z"),
                    ))
                    info.linkname = rng.choice(("/etc/passwd", "../outside", infos[0].name))
                elif what == 1:
                    info.name = rng.choice((
                        *("../" + info.name, "/" + info.name, "a/../../" + info.name),
                        *("./" + info.name, info.name + "\x1b[2J", "." + info.name, "é" * 60),
                        info.name.replace(".", ".pyd.", 1),
                    ))
                elif what == 2:
                    body = damaged(body, rng)
                elif what == 3:
                    body = rng.choice((b"", b"nan", b"-1", b"9" * 5000, b"1e999", bytes(70_000)))
                elif what == 4:
                    continue
                else:
                    new.addfile(info, io.BytesIO(body))
                if info.isreg():
                    info.size = len(body)
            new.addfile(info, io.BytesIO(body))
    return sink.getvalue()
