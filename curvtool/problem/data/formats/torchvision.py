"""`torchvision:NAME`: a dataset of torchvision that is on disk; nothing is downloaded unasked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.examples import Rows, Source
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean, first_line, misfit_of_kwargs

# These unpickle a file in `root`: a folder that came with a checkpoint must not run code.
_UNPICKLES = frozenset({"LSUN", "LSUNClass"})
_PATHS = ("root", "annFile", "ann_file", "root_dir")


def open_torchvision(spec: DataSpec, name: str, allowance: Allowance) -> Callable[[], Source]:
    """Find the dataset's class and check its arguments.

    Args:
        spec: the data; `kwargs` go to the class, and `root` is relative to whoever gives it.
        name: the name of the class.
        allowance: says whether what is not there is fetched.

    Returns:
        A function that opens the dataset, each image a tensor in [0, 1].

    Raises:
        InputError: for a name or argument that torchvision does not know, or a dataset that
            unpickles files, where the spec is not trusted.
    """
    from torchvision import datasets, transforms  # 1 s, needed by few

    names = list(datasets.__all__)
    if name not in names:
        raise InputError(
            f"{spec.origin.label}: expected a dataset of torchvision after torchvision:; got "
            f"{name!r}.{did_you_mean(name, names)} The names are those of torchvision.datasets."
        )
    if name in _UNPICKLES and not spec.origin.trusted:
        raise InputError(
            f"{spec.origin.label} was expected to name only data that is read without running "
            f"code, since it came with a checkpoint; {spec.source} unpickles a file. Where you "
            f"trust it, repeat the command with --trust, or give --data {spec.source} yourself."
        )
    dataset_class = getattr(datasets, name)
    kwargs = dict(spec.kwargs)
    for key in _PATHS:
        if isinstance(kwargs.get(key), str):
            kwargs[key] = str(spec.kwarg_bases.get(key, spec.origin.base) / str(kwargs[key]))
    if "transform" in kwargs or "target_transform" in kwargs:
        raise InputError(
            f"{spec.origin.label}: expected no transform for {spec.source}: images become tensors "
            f"in [0, 1]. For another preprocessing set transforms under [data], or write a hook: "
            f"--data file.py:dataset."
        )
    if kwargs.pop("download", False) and not allowance.download:
        raise InputError(
            f"{spec.origin.label}: expected data that are on disk, since nothing is fetched unless "
            f"the command says so; download is set for {spec.source}. Repeat the command with "
            f"--download, or leave download out."
        )
    if "transform" in inspect.signature(dataset_class).parameters:
        kwargs["transform"] = transforms.ToTensor()
    if allowance.download:
        if "download" not in inspect.signature(dataset_class).parameters:
            raise InputError(
                f"--download expected a dataset that torchvision can fetch; {spec.source} is not "
                f"one. Leave it out, and set root to the folder that holds it."
            )
        kwargs["download"] = True
    misfit = misfit_of_kwargs(dataset_class, kwargs)
    if misfit:
        raise InputError(
            f"{spec.origin.label}: expected arguments that {spec.source} has; got "
            f"{dict(spec.kwargs)}: {misfit} Set them by --data-kwargs, or kwargs under [data], "
            f'for example kwargs = {{ root = "data" }}.'
        )
    return lambda: _read(spec, dataset_class, kwargs)


def _read(spec: DataSpec, dataset_class: Any, kwargs: dict[str, object]) -> Source:
    try:
        dataset = dataset_class(**kwargs)
    except (RuntimeError, OSError, ValueError, TypeError, KeyError, ImportError) as error:
        absent = "not found" in str(error).lower() or isinstance(error, FileNotFoundError)
        remedy = (
            "Set root to the folder that holds it (--data-kwargs root=DIR), or let it be fetched: "
            "--download."
            if absent
            else "Correct --data-kwargs, or kwargs under [data]."
        )
        raise InputError(
            f"{spec.origin.label}: expected {spec.source} on disk with "
            f"{dict(spec.kwargs)}; torchvision says: {first_line(error)} {remedy}"
        ) from error
    return Source(spec.source, Rows(dataset, alone=True))
