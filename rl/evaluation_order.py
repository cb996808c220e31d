"""Which checkpoints are evaluated first: what is newest, what all are compared with, then what the gaps hide.

Training goes on while checkpoints wait, so the newest one says most about where it stands. The start, place 0, is what
every other one is compared with. After these two, the middle of the widest gap between judged places comes next, since
a peak is most likely to hide there; of equally wide gaps the newer one. So after m evaluations no gap is wider than
about 1/m of the whole, whenever it is interrupted.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise


def order(count: int, judged: Collection[int] = ()) -> list[int]:
    """Those of the places 0..count - 1 that are not judged yet, each once, the one to evaluate next first."""
    known = set(judged)
    places = [place for place in dict.fromkeys((count - 1, 0)) if 0 <= place < count and place not in known]
    known.update(places)
    while len(places) < count - len(set(judged) & set(range(count))):
        places.append(_middle_of_widest(sorted(place for place in known if place < count)))
        known.add(places[-1])
    return places


def ranks(count: int, judged: Collection[int] = ()) -> dict[int, int]:
    """By place, how many are evaluated before it."""
    return {place: rank for rank, place in enumerate(order(count, judged))}


def _middle_of_widest(known: list[int]) -> int:
    """The newer middle place of the widest gap between neighbours, of equal ones the newest."""
    _, low, high = max((high - low, low, high) for low, high in pairwise(known))
    return (low + high + 1) // 2
