"""The records that several kinds of run file hold as JSON: problem, plan, preflight."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from curvtool.results import Check, Forecast, Plan, Preflight, ProblemSummary, Verdict, WayTrial
from curvtool.storage import strictjson
from curvtool.storage.file import read_json

Record = TypeVar("Record", ProblemSummary, Plan, Check, Preflight, Forecast, WayTrial)


def write_record(file: Any, name: str, record: Any) -> None:
    """Write a dataclass as a JSON attribute.

    Args:
        file: open `h5py.File`.
        name: of the root attribute.
        record: any of `results`.
    """
    file.attrs[name] = strictjson.dumps(dataclasses.asdict(record))


def read_problem(file: Any) -> ProblemSummary:
    """Read the attribute `problem`."""
    return as_record(ProblemSummary, read_json(file, "problem"))


def read_plan(file: Any) -> Plan:
    """Read the attribute `plan`; files of earlier versions lack what was foreseen."""
    values = read_json(file, "plan")
    return as_record(Plan, {**values, **as_planned(values)})


def as_planned(values: Mapping[str, Any]) -> dict[str, Any]:
    """The records inside a plan: its `forecast` and its `trials`."""
    forecast = values.get("forecast")
    return {
        "forecast": None if forecast is None else as_record(Forecast, forecast),
        "trials": tuple(
            as_record(WayTrial, {**trial, "verdict": Verdict(trial["verdict"])})
            for trial in values.get("trials", ())
        ),
    }


def read_preflight(file: Any) -> Preflight:
    """Read the attribute `preflight`."""
    return as_preflight(read_json(file, "preflight"))


def as_preflight(values: Mapping[str, Any]) -> Preflight:
    """The record with its checks."""
    checks = tuple(as_record(Check, check) for check in values["checks"])
    return as_record(Preflight, {**values, "checks": checks})


def as_record(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Make a record; fields that a later version added are left out, lists become tuples.

    Args:
        kind: of the record.
        values: its fields.

    Returns:
        The record.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in known
    }
    return kind(**fields)
