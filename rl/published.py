"""Published results of the checkpoints of one run, read strictly: rates, counts or verdicts per type of scenario.

``{"rows": [{"step": 13, "types": {"retrieval": {"rate": 0.9375, "n": 16}}, "overall": 0.6667,
"training_score": 0.5562}]}`` with ``{"k": 15, "n": 16}`` or ``{"verdicts": {"scenario id": true}}`` in place of a rate,
where these are known. Step 0 is the version that training started from. A verdict of null is "no verdict".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from rl.errors import InvalidInput
from rl.records import Record

MOST_VERDICTS = 10**9
ROW_KEYS = ("step", "types", "overall", "training_score", "turns", "tokens")
CELL_KEYS = ("rate", "k", "n", "verdicts")


class Cell(Record):
    """What was published of one type: ``n`` verdicts and ``rate``, or ``k`` successes, or both, or the verdicts.

    Neither a rate nor successes: there are no verdicts, and ``n`` is 0.
    """

    n: int
    k: int | None = None
    rate: float | None = None
    verdicts: dict[str, bool | None] | None = None


class PublishedRow(Record):
    """What was published of one checkpoint. ``turns`` and ``tokens`` are means per episode."""

    step: int
    types: dict[str, Cell]
    overall: float | None = None
    training_score: float | None = None
    turns: float | None = None
    tokens: float | None = None


def read_rows(data: object) -> list[PublishedRow]:
    """The rows, by step. ``data`` is what a JSON file holds.

    Raises:
        InvalidInput: something is missing, unknown, out of range, or there twice.
    """
    if isinstance(data, Mapping):
        _known(data, ("schema", "rows"), "file")
        data = data.get("rows")
    if not isinstance(data, list):
        raise InvalidInput("rows", data, 'give {"rows": [{"step": 0, "types": {...}}, ...]}')
    rows = [_row(one, f"rows[{place}]") for place, one in enumerate(data)]
    first: dict[int, int] = {}
    for place, row in enumerate(rows):
        if first.setdefault(row.step, place) != place:
            remedy = f"rows[{first[row.step]}] has the same step; give each step once"
            raise InvalidInput(f"rows[{place}].step", row.step, remedy)
    return sorted(rows, key=lambda row: row.step)


def _row(data: object, place: str) -> PublishedRow:
    if not isinstance(data, Mapping):
        raise InvalidInput(place, data, 'give an object such as {"step": 13, "types": {...}}')
    _known(data, ROW_KEYS, place)
    types = data.get("types")
    if not isinstance(types, Mapping):
        remedy = 'give each type its results, such as {"retrieval": {"k": 15, "n": 16}}'
        raise InvalidInput(f"{place}.types", types, remedy)
    return PublishedRow(
        step=whole(data.get("step"), f"{place}.step"),
        types={str(name): _cell(cell, f"{place}.types.{name}") for name, cell in types.items()},
        overall=_share(data.get("overall"), f"{place}.overall"),
        training_score=_finite(data.get("training_score"), f"{place}.training_score"),
        turns=_finite(data.get("turns"), f"{place}.turns", least=0),
        tokens=_finite(data.get("tokens"), f"{place}.tokens", least=0),
    )


def _cell(data: object, place: str) -> Cell:
    if data is None:
        return Cell(n=0)
    if not isinstance(data, Mapping):
        raise InvalidInput(place, data, 'give {"k": 15, "n": 16} or {"rate": 0.9375, "n": 16}')
    _known(data, CELL_KEYS, place)
    if data.get("verdicts") is not None:
        return _of_verdicts(data, f"{place}.verdicts")
    rate = _share(data.get("rate"), f"{place}.rate")
    if rate is None and data.get("k") is None:
        _nothing(data.get("n"), place)
        return Cell(n=0)
    n = whole(data.get("n"), f"{place}.n")
    k = None if data.get("k") is None else whole(data["k"], f"{place}.k")
    if n > MOST_VERDICTS:
        raise InvalidInput(f"{place}.n", n, f"give at most {MOST_VERDICTS} verdicts")
    if k is not None and k > n:
        raise InvalidInput(f"{place}.k", k, f"there are only n = {n} verdicts; k is how many of them were successes")
    if n == 0 and rate:
        raise InvalidInput(f"{place}.rate", rate, "n = 0 verdicts have no rate; give n, or null for the rate")
    return Cell(n=n, k=k, rate=rate) if n else Cell(n=0)


def _nothing(n: object, place: str) -> None:
    if n is not None and whole(n, f"{place}.n") > 0:
        raise InvalidInput(place, {"n": n}, "say how many of them were successes: give k or rate, or null for the cell")


def _of_verdicts(data: Mapping[str, object], place: str) -> Cell:
    verdicts = data["verdicts"]
    if len({name for name, value in data.items() if value is not None}) > 1 or not isinstance(verdicts, Mapping):
        raise InvalidInput(place, verdicts, 'give {"verdicts": {"scenario id": true or false or null}} alone')
    read = {str(name): _verdict(value, f"{place}.{name}") for name, value in verdicts.items()}
    known = [value for value in read.values() if value is not None]
    return Cell(n=len(known), k=sum(known), verdicts=read)


def _verdict(value: object, place: str) -> bool | None:
    if value is None:
        return None
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    raise InvalidInput(place, value, "a verdict is true or false; null where there is none")


def whole(value: object, place: str) -> int:
    """A whole number that is not negative; 16.0 counts as one.

    Raises:
        InvalidInput: it is something else.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInput(place, value, "give a whole number, 0 or more")
    return value


def _share(value: object, place: str) -> float | None:
    number = _finite(value, place)
    if number is not None and not 0 <= number <= 1:
        raise InvalidInput(place, value, "give a share from 0 to 1, not a percentage")
    return number


def _finite(value: object, place: str, least: float = -math.inf) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(place, value, "give a number, or null where there is none")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < least:
        remedy = "give a finite number, or null where there is none"
        raise InvalidInput(place, value, remedy if least < 0 else f"{remedy}; it is not negative")
    return number


def _known(data: Mapping[str, object], keys: Collection[str], place: str) -> None:
    for name in data:
        if name not in keys:
            raise InvalidInput(f"{place}.{name}", data[name], f"unknown; known are {', '.join(keys)}")
