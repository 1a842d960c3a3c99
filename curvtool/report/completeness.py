"""What is proved about eigenvalues that a list might lack, in sentences.

For reports and JSON alike; "complete" is said of a list that is proved complete, of no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from curvtool.report import numbers
from curvtool.results import Completeness, EigenPairs, EndProof

# A chance below this one is told as this one: nothing vouches for arithmetic to more digits.
_LEAST_CHANCE = 1e-10
_WANTED = {"LM": "eigenvalues of largest magnitude", "LA": "largest eigenvalues"}
_WANTED |= {"SA": "smallest eigenvalues"}
_ERRING = {"LA": "low", "SA": "high"}


def completeness_sentences(pairs: EigenPairs, at_most: str = "<=") -> list[str]:
    """Say what is proved of a list: one sentence, and one more for each of two ends.

    Args:
        pairs: the list.
        at_most: sign of a chance that is not larger.

    Returns:
        Sentences without capitals and full stops at their ends, at least one.
    """
    proof = pairs.completeness
    said = _statements(proof, pairs.which, at_most)
    if proof.found:
        were, have = ("was", "has") if proof.found == 1 else ("were", "have")
        said[0] = (
            f"{numbers.counted(proof.found, 'value')} {were} missing and {have} been added; "
            f"{said[0]}"
        )
    if proof.products:
        said[-1] += f". {numbers.counted(proof.products, 'further product')}"
    return said


def proved_of_layers(each: Sequence[EigenPairs]) -> str:
    """Say of how many layers what is proved.

    Args:
        each: the lists of the layers, at least one.

    Returns:
        A sentence without capital and full stop.
    """
    proofs = [pairs.completeness for pairs in each]
    whole = [proof for proof in proofs if proof.complete]
    partly = sum(_in_part(proof) for proof in proofs)
    least = min((proof.probability or 0.0 for proof in whole), default=1.0)
    return counted_parts(
        (
            (len(whole), "complete in"),
            (partly, "proved in part in"),
            (len(proofs) - len(whole) - partly, "nothing proved in"),
        ),
        numbers.counted(len(proofs), "layer")
        + ("" if least == 1 else f", each with probability {percent(least)}"),
    )


def counted_parts(parts: Sequence[tuple[int, str]], total: str) -> str:
    """Say how many of a whole are what: `complete in 4 of 6 layers; nothing proved in 2`.

    Args:
        parts: numbers and words; those of which there are none are left out.
        total: number and noun of the whole, told once, after the first part.

    Returns:
        The parts, the words before the numbers.
    """
    said = [f"{words} {numbers.count(number)}" for number, words in parts if number]
    return "; ".join([*(f"{first} of {total}" for first in said[:1]), *said[1:]])


def proved_rank(proof: Completeness) -> str:
    """Say in a word or two what is proved.

    Args:
        proof: of one list.

    Returns:
        `complete`, `proved to rank 17 of 20`, or `nothing proved`.
    """
    if proof.complete:
        return "complete"
    if not _in_part(proof):
        return "nothing proved"
    return f"proved to rank {proof.proved_rank} of {numbers.count(proof.listed)}"


def percent(probability: float) -> str:
    """Format a probability that holds at least, e.g. `99.9 %`: rounded down.

    Args:
        probability: in 0..1.

    Returns:
        Percents with at most two decimals.
    """
    # A double may lie a rounding below the decimal that it stands for.
    return f"{math.floor(probability * 1e4 * (1 + 1e-12)) / 100:g} %"


def _statements(proof: Completeness, which: str, at_most: str) -> list[str]:
    if proof.complete:
        return [_complete(proof, which)]
    if proof.probability is None or not _in_part(proof):
        return ["nothing is proved" + (f": {proof.reason}" if proof.reason else "")]
    likely = f"with probability {percent(proof.probability)}"
    if len(proof.ends) == 1:
        [(name, end)] = proof.ends
        said = f"{_rank(end)}: {likely} {_beyond(name, end)}{_below(name, end, at_most)}"
        return [_with_reason(said, proof)]
    return [
        _with_reason(f"{proved_rank(proof)}, {likely} for both ends together", proof),
        *(
            f"{name} end, rank {numbers.count(end.proved_rank)} of {numbers.count(end.listed)}: "
            f"{_beyond(name, end)}{_below(name, end, at_most)}"
            for name, end in proof.ends
        ),
    ]


def _in_part(proof: Completeness) -> bool:
    """Whether there is a statement, if not that of a whole list."""
    return not proof.complete and proof.probability is not None and bool(proof.ends)


def _complete(proof: Completeness, which: str) -> str:
    if not proof.ends:
        return "complete: every eigenvalue of the matrix was computed"
    likely = percent(proof.probability or 0.0)
    if which == "BE":
        upper, lower = (0 if end is None else end.listed for end in (proof.upper, proof.lower))
        wanted = f"{numbers.count(upper)} largest and {numbers.count(lower)} smallest eigenvalues"
    else:
        wanted = f"{numbers.count(proof.listed)} {_WANTED.get(which, 'wanted eigenvalues')}"
    return (
        f"complete: with probability {likely} the list holds the {wanted} of the matrix that the "
        f"products apply, copies counted; each may be {_ERRING.get(which, 'short')} by at most "
        f"{numbers.short_bound(proof.margin)} of its magnitude, or by "
        f"{numbers.short_bound(proof.least_margin)} where that is more"
    )


def _rank(end: EndProof) -> str:
    return f"proved to rank {numbers.count(end.proved_rank)} of {numbers.count(end.listed)}"


def _beyond(name: str, end: EndProof) -> str:
    """At most r eigenvalues lie beyond the limit."""
    if not _has_limit(end):
        listed = f"the outermost {numbers.count(end.proved_rank)} are listed, and "
        return (listed if end.proved_rank else "") + "no limit is known"
    limit = numbers.outward(end.nothing_beyond or 0.0, up=name == "upper")
    exceeds, exceed = ("exceeds", "exceed") if name == "upper" else ("lies below", "lie below")
    if end.proved_rank == 0:
        return f"no eigenvalue {exceeds} {limit}"
    if end.proved_rank == 1:
        return f"at most 1 eigenvalue {exceeds} {limit}, and it is listed"
    return f"at most {numbers.count(end.proved_rank)} eigenvalues {exceed} {limit}, all listed"


def _below(name: str, end: EndProof, at_most: str) -> str:
    """What may be missing on the near side of the limit."""
    if end.complete:
        return ""
    where = "below" if name == "upper" else "above"
    place = f"{where} that " if _has_limit(end) else ""
    said = f"; {place}the list may miss values"
    if end.unseen >= 1:
        return said
    chance = numbers.bound(max(end.unseen, _LEAST_CHANCE), "%")
    return f"{said} (chance that one stayed unseen: {at_most} {chance})"


def _has_limit(end: EndProof) -> bool:
    return end.nothing_beyond is not None and math.isfinite(end.nothing_beyond)


def _with_reason(said: str, proof: Completeness) -> str:
    return f"{said} ({proof.reason})" if proof.reason else said
