"""The calls of a frozen dataset in the order they are trained in, a few trajectories at a time, read by COPY.

In memory is what is read at once, however many rows there are: about ``BATCH_BYTES``, at most twice that or one
trajectory, and at most ``MOST_AT_ONCE`` trajectories. What turns out to be more is let go by, and then read again in
parts by the sizes that were seen. The order is (group, trajectory) by code points, and a trajectory's calls by (turn,
place, time of storing, id); groups and ids are compared by code points whatever the server's collation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from struct import Struct
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import partitions
from db.copy_binary import Decoder, Fields
from db.copying import copy_out
from db.session import transaction
from rl.dataset_line import StoredCall

BATCH_BYTES = 8 << 20
FIRST_AT_ONCE, MOST_AT_ONCE = 32, 1_024


class Member(NamedTuple):
    """A trajectory of a dataset. ``at`` says which partition its calls lie in."""

    trajectory_id: str
    group: str
    score: float
    at: datetime


MEMBERS = text("""
    select d.trajectory_id, d."group", d.score, k.at
      from rlfleet.dataset_trajectories d join rlfleet.trajectory_keys k using (trajectory_id)
     where d.dataset_id = :dataset_id
     order by d."group" collate "C", d.trajectory_id collate "C"
""")


def members(session: Session, dataset_id: int) -> Iterator[Member]:
    """The dataset's trajectories in the order they are trained in, through a cursor of the server's."""
    rows = session.execute(MEMBERS, {"dataset_id": dataset_id}, execution_options={"yield_per": 1_000})
    return (Member(*row) for row in rows)


@contextmanager
def snapshot() -> Iterator[Session]:
    """A transaction that only reads, and sees one moment however long it takes; see ``db.session.transaction``."""
    with transaction() as session:
        session.execute(text("set transaction isolation level repeatable read, read only"))
        yield session


def of_dataset(session: Session, dataset_id: int) -> Iterator[tuple[Member, list[StoredCall]]]:
    """Each trajectory of the dataset with its calls, in the order they are trained in.

    Raises:
        DatabaseUnavailable: the server went away, or did not answer in time.
    """
    rest, at_once = members(session, dataset_id), FIRST_AT_ONCE
    while some := list(islice(rest, at_once)):
        size = yield from _in_order(session, some)
        at_once = max(1, min(MOST_AT_ONCE, 2 * at_once, at_once * BATCH_BYTES // max(1, size)))


class Read(NamedTuple):
    """The calls of some trajectories by id, and how many bytes came. ``sizes`` has theirs where they were let go by."""

    calls: dict[str, list[StoredCall]]
    size: int
    sizes: Counter[str]


def _in_order(session: Session, some: Sequence[Member]) -> Generator[tuple[Member, list[StoredCall]], None, int]:
    """Each of these with its calls; returns how many bytes they were."""
    found = _read(session, some)
    if found.sizes:
        for part in _parts(some, found.sizes):
            yield from _in_order(session, part)
        return found.size
    for member in some:
        yield member, found.calls.pop(member.trajectory_id, [])
    return found.size


def _parts(some: Sequence[Member], sizes: Counter[str]) -> Iterator[list[Member]]:
    """The trajectories in their order, as many at once as are ``BATCH_BYTES`` together, or one; never all at once.

    Sizes leave out the frame of each row, so that all of it may seem to fit.
    """
    most = min(BATCH_BYTES, sizes.total() // 2)
    part: list[Member] = []
    held = 0
    for member in some:
        size = sizes[member.trajectory_id]
        if part and held + size > most:
            yield part
            part, held = [], 0
        part.append(member)
        held += size
    yield part


CALLS = """
    select trajectory_id, turn, place, created_at, call_id, model, body, prompt_token_ids, token_ids, logprobs,
           temperature, finish_reason
      from rlfleet.calls
     where trajectory_id = any(%(ids)s) and at >= %(since)s and at < %(until)s
"""


def _read(session: Session, some: Sequence[Member]) -> Read:
    """The calls of these trajectories; of several that are more than twice ``BATCH_BYTES`` the sizes alone."""
    found: dict[str, list[StoredCall]] = {}
    sizes: Counter[str] = Counter()
    most = 2 * BATCH_BYTES if len(some) > 1 else None

    def take(fields: Fields) -> None:
        if sizes:
            sizes[fields[0].decode()] += _size(fields)
            return
        call = stored_call(fields)
        found.setdefault(call.trajectory_id, []).append(call)

    decoder = Decoder(take)
    values = {
        "ids": [one.trajectory_id for one in some],
        "since": partitions.week_of(min(one.at for one in some)),
        "until": partitions.week_of(max(one.at for one in some)) + partitions.WEEK,
    }
    for piece in copy_out(session, CALLS, values):
        decoder.write(piece)
        if most is not None and decoder.read > most and not sizes:
            sizes.update({name: sum(map(_size, calls)) for name, calls in found.items()})
            found.clear()
    decoder.close()
    for calls in found.values():
        calls.sort(key=_place)
    return Read(found, decoder.read, sizes)


def _size(fields: Sequence[object]) -> int:
    """Bytes of the columns whose length is not always about the same."""
    return sum(len(one) for one in fields if isinstance(one, bytes))


def _place(call: StoredCall) -> tuple[int, int, int, str]:
    return call[:4]


_integer, _moment, _double = Struct("!i").unpack, Struct("!q").unpack, Struct("!d").unpack


def stored_call(fields: Fields) -> StoredCall:
    """The call whose columns a COPY of ``CALLS`` gave."""
    trajectory_id, turn, place, created_at, call_id, model, body, prompt, said, logprobs, temperature, reason = fields
    return StoredCall(
        _integer(turn)[0],
        _integer(place)[0],
        _moment(created_at)[0],
        call_id.decode(),
        trajectory_id.decode(),
        model.decode(),
        body,
        prompt,
        said,
        logprobs,
        None if temperature is None else _double(temperature)[0],
        None if reason is None else reason.decode(),
    )
