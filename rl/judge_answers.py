"""A judge's answer, taken wholly or not at all: every id once, every score a finite number from 0 to 1."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

LONGEST = 200_000
"""Characters of an answer that are looked at; eight scores need a few thousand."""
MOST_STARTS = 200
EXPLANATION = 2000


class Verdict(NamedTuple):
    """The score of one trajectory, 0 to 1, and the judge's words for it."""

    score: float
    explanation: str


class Malformed(NamedTuple):
    """An answer that cannot be used, and why."""

    reason: str


def parse(text: str, ids: Sequence[str]) -> dict[str, Verdict] | Malformed:
    """The verdict for each of ``ids``, in any order; words around the one JSON object are passed over."""
    if len(text) > LONGEST:
        return Malformed(f"the answer has {len(text)} characters, more than {LONGEST}")
    found = [value for value in objects(text) if "scores" in value]
    if len(found) != 1:
        return Malformed(f"{len(found)} JSON objects with scores in the answer, not one")
    scores = found[0]["scores"]
    if not isinstance(scores, list):
        return Malformed("scores is not a list")
    verdicts: dict[str, Verdict] = {}
    for one in scores:
        taken = _verdict(one, ids)
        if isinstance(taken, Malformed):
            return taken
        trajectory_id, verdict = taken
        if trajectory_id in verdicts:
            return Malformed(f"trajectory_id {trajectory_id} is there twice")
        verdicts[trajectory_id] = verdict
    missing = [one for one in ids if one not in verdicts]
    return Malformed(f"no score for trajectory_id {', '.join(missing)}") if missing else verdicts


def _verdict(one: object, ids: Sequence[str]) -> tuple[str, Verdict] | Malformed:
    if not isinstance(one, dict):
        return Malformed("an entry of scores is not an object")
    named, score, said = one.get("trajectory_id"), one.get("score"), one.get("explanation", "")
    trajectory_id = str(named) if isinstance(named, int) and not isinstance(named, bool) else named
    if trajectory_id not in ids:
        return Malformed(f"nobody asked for trajectory_id {named!r:.40}")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1 or not math.isfinite(score):
        return Malformed(f"the score of trajectory_id {trajectory_id} is {score!r:.40}, not a number from 0 to 1")
    return str(trajectory_id), Verdict(float(score), storable(said if isinstance(said, str) else ""))


def storable(text: str) -> str:
    """The text without what Postgres cannot hold, at most ``EXPLANATION`` characters of it."""
    return text.replace("\x00", "")[:EXPLANATION].encode("utf-8", "replace").decode()


def objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a text, outermost only; none where there are too many places to look at."""
    decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse)
    found: list[dict[str, Any]] = []
    start, tries = text.find("{"), 0
    while start >= 0 and tries < MOST_STARTS:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            found.append(value)
        start = text.find("{", end)
    return found if start < 0 else []


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is there twice")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")
