"""Messages that no task can be made of, pushed into a real broker before a real worker."""

from __future__ import annotations

import json
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from db import rejections
from tests.tasks.real_worker import push, worker
from tests.tasks.rows import rows
from tests.worker.doubles import wait_until

pytestmark = pytest.mark.usefixtures("serving")

OPTIONS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@pytest.fixture(scope="module")
def serving(
    database: str, broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """One worker that all messages of this module go to."""
    broker.flushdb()
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with worker(log, "score", "maint", RLFLEET_TICK_SECONDS="600") as process:
        yield process
        print(log.read_text()[-20000:])  # noqa: T201 - shown when a test fails


def counted() -> dict[tuple[str, str], int]:
    return {(one.reason, one.subject): one.count for one in rejections.listing()}


def body(*args: object, **kwargs: object) -> bytes:
    return json.dumps([list(args), kwargs, OPTIONS]).encode()


def wait_for(reason: str, subject: str, number: int = 1) -> rejections.Rejected:
    wait_until(lambda: counted().get((reason, subject)) == number, 60)
    return next(one for one in rejections.listing() if (one.reason, one.subject) == (reason, subject))


def test_an_unknown_task(broker: Redis) -> None:
    for _ in range(3):
        push(broker, "score", "rlfleet.scoer", body(7))
    one = wait_for("unknown_task", "rlfleet.scoer", 3)
    assert one.example.startswith("from 9@elsewhere: [[7], {}, ")


def test_pickle_is_refused_unread(broker: Redis, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    push(broker, "score", "rlfleet.score", pickle.dumps(Evil()), "application/x-python-serialize")
    wait_for("refused_content_type", "application/x-python-serialize")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(b"[[7], {}", "undecodable"), (b"\xff\xfe", "undecodable"), (b"5", "invalid"), (b"[]", "invalid")],
)
def test_a_body_that_is_none(broker: Redis, sent: bytes, reason: str) -> None:
    before = counted().get((reason, "application/json"), 0)
    push(broker, "score", "rlfleet.score", sent)
    wait_for(reason, "application/json", before + 1)


@pytest.mark.parametrize("entry", ["no message at all", "[1]", "{}", '"x"'])
def test_an_entry_that_is_no_message_costs_a_reconnection(broker: Redis, entry: str) -> None:
    before = sum(number for (reason, _), number in counted().items() if reason in ("not_a_message", "unknown_format"))
    broker.lpush("rlfleet:score", entry)
    wait_until(
        lambda: (
            sum(n for (reason, _), n in counted().items() if reason in ("not_a_message", "unknown_format"))
            == before + 1
        ),
        60,
    )


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (body("7"), "rlfleet.score: job_id = '7': send an integer; rlfleet.score takes (job_id)"),
        (body(True), "rlfleet.score: job_id = True: send an integer"),
        (body(), "rlfleet.score: job_id = None: it is missing"),
        (body(7, 8), "rlfleet.score: argument 2 = 8: leave it out"),
        (body(2**63), "64 bits"),
    ],
)
def test_wrong_arguments_name_argument_value_and_remedy(broker: Redis, sent: bytes, says: str) -> None:
    before = counted().get(("bad_arguments", "rlfleet.score"), 0)
    push(broker, "score", "rlfleet.score", sent)
    assert says in wait_for("bad_arguments", "rlfleet.score", before + 1).example


def test_the_worker_lives_and_works_and_a_person_hears_of_it_once(
    broker: Redis, serving: subprocess.Popen[bytes]
) -> None:
    push(broker, "score", "rlfleet.scoer", body(8))
    wait_for("unknown_task", "rlfleet.scoer", 4)
    alerts = rows("select subject, count(*) from rlfleet.alerts where name = 'message_rejected' group by subject")
    assert ("unknown_task", 1) in [tuple(row) for row in alerts]
    # A newer sender's argument is left out, and the task runs.
    push(broker, "maint", "rlfleet.plan", body("late", 10**9, shard=3))
    wait_until(lambda: rows("select 1 from rlfleet.schedule_slots where name = 'late'"), 60)
    assert serving.poll() is None
