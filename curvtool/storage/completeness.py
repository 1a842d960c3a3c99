"""What is proved of a list, as a JSON attribute; files of the first schema had a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curvtool.results import WHOLE_MATRIX, Completeness, EndProof, unproved
from curvtool.results.completeness import EARLIER
from curvtool.storage import strictjson
from curvtool.storage.file import is_earlier, read_json

_NAME = "completeness"
# Of the first schema: the word for a list that needed no probe.
_EXHAUSTIVE = "exhaustive"


def write_completeness(group: Any, found: Completeness) -> None:
    """Write the attribute `completeness`.

    Args:
        group: open `h5py.File` or group.
        found: what is proved.
    """
    group.attrs[_NAME] = strictjson.dumps(found.as_dict())


def read_completeness(group: Any) -> Completeness:
    """Read the attribute `completeness`.

    Args:
        group: open `h5py.File` or group.

    Returns:
        What is proved. Of a probe of the first schema that is nothing, whatever it said.
    """
    if is_earlier(group):
        return WHOLE_MATRIX if group.attrs[_NAME] == _EXHAUSTIVE else unproved(EARLIER)
    told = read_json(group, _NAME)
    return Completeness(
        complete=bool(told["complete"]),
        probability=told["probability"],
        upper=_end(told["ends"]["upper"]),
        lower=_end(told["ends"]["lower"]),
        margin=float(told["margin"]),
        least_margin=float(told["least_margin"]),
        products=int(told["products"]),
        found=int(told["found"]),
        reason=str(told["reason"]),
    )


def _end(told: Mapping[str, Any] | None) -> EndProof | None:
    if told is None:
        return None
    return EndProof(
        listed=int(told["listed"]),
        proved_rank=int(told["proved_rank"]),
        nothing_beyond=told["nothing_beyond"],
        unseen=float(told["unseen"]),
    )
