"""The calls of a frozen dataset in the order they are trained in, a few trajectories at a time, read by COPY.

In memory is what is read at once: about ``BATCH_BYTES``, and at most ``MOST_AT_ONCE`` trajectories, however many rows
there are. The order is (group, trajectory) by code points, and a trajectory's calls by (turn, place, time of storing,
id); groups and ids are compared by code points whatever the server's collation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        calls, size = _read(session, some)
        for member in some:
            yield member, calls.pop(member.trajectory_id, [])
        at_once = max(1, min(MOST_AT_ONCE, 2 * at_once, at_once * BATCH_BYTES // max(1, size)))


CALLS = """
    select trajectory_id, turn, place, created_at, call_id, model, body, prompt_token_ids, token_ids, logprobs,
           temperature, finish_reason
      from rlfleet.calls
     where trajectory_id = any(%(ids)s) and at >= %(since)s and at < %(until)s
"""


def _read(session: Session, some: Sequence[Member]) -> tuple[dict[str, list[StoredCall]], int]:
    """The calls of these trajectories, and how many bytes they were."""
    found: dict[str, list[StoredCall]] = {}

    def take(fields: Fields) -> None:
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
    decoder.close()
    for calls in found.values():
        calls.sort(key=_place)
    return found, decoder.read


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
