"""What is done with each answer of a real HTTP server."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from recorder import Recorder, ingest, sender
from recorder.ingest import Verdict
from recorder.segment import Segment
from tests.recorder.doubles import Answer, held_port, scripted, wait_until

Events = list[dict[str, Any]]
Headers = dict[str, str]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sender, "LONGEST_WAIT", 0.02)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port on which nobody listens while the test runs."""
    with held_port() as port:
        yield port


def say(recorder: Recorder, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        recorder.feedback(number, trajectory_id="e", feedback_id=f"f{number}")


def say_at_once(recorder: Recorder, count: int) -> None:
    """``say``, of which nobody takes a part: the first events could else be under way before the last are said."""
    with recorder._pipeline.buffer._changed:
        say(recorder, count)


def values(events: Events) -> list[float]:
    return [event["value"] for event in events]


def test_certificates_are_read_before_the_first_thread_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that forked while a thread read them would leave its child a lock of OpenSSL that nobody gives back."""
    with scripted() as server, Recorder(server.url, "k1", spool=tmp_path) as recorder:
        monkeypatch.setattr("ssl.create_default_context", lambda *_, **__: pytest.fail("read by a thread"))
        say(recorder, 1)
        assert recorder.close(30.0)
        assert values(server.stored) == [0]


@pytest.mark.parametrize("has_spool", [True, False])
def test_events_arrive_in_order_in_batches_of_at_most_a_thousand(tmp_path: Path, has_spool: bool) -> None:
    with scripted() as server, Recorder(server.url, "k1", spool=tmp_path if has_spool else None) as recorder:
        say(recorder, 2_500)
        assert recorder.flush(30.0)
        assert recorder.close(30.0)
        assert values(server.stored) == list(range(2_500))
        assert max(server.sizes) <= 1_000
        assert {headers["authorization"] for headers in server.headers} == {"Bearer k1"}
        assert "gzip" in {headers.get("content-encoding") for headers in server.headers}
        stats = recorder.stats
        assert (stats.recorded, stats.sent, stats.waiting, stats.dropped) == (2_500, 2_500, 0, 0)
        assert stats.spooled == (2_500 if has_spool else 0)


@pytest.mark.parametrize("status", [413, 400])
def test_a_request_that_is_too_large_or_spoilt_is_split_until_the_bad_event_stands_alone(
    tmp_path: Path, status: int
) -> None:
    def rule(events: Events, headers: Headers) -> Answer | None:
        return Answer(status) if 77 in values(events) or len(events) > 100 else None

    with scripted(rule) as server, Recorder(server.url, spool=tmp_path, linger_seconds=0.3) as recorder:
        say(recorder, 500)
        assert recorder.close(30.0)
        assert values(server.stored) == [number for number in range(500) if number != 77]
        assert (recorder.stats.sent, recorder.stats.rejected, recorder.stats.waiting) == (499, 1, 0)
    (line,) = (tmp_path / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["event"]["feedbackId"] == "f77"
    assert json.loads(line)["reason"] == f"HTTP {status}"


def test_events_that_the_server_rejects_are_put_aside_with_its_reason(tmp_path: Path) -> None:
    def rule(events: Events, headers: Headers) -> Answer:
        bad = [place for place, event in enumerate(events) if event["value"] % 10 == 3]
        said = [{"index": place, "type": "feedback", "field": "value", "reason": "ends in 3"} for place in bad]
        body = {"schema": 1, "accepted": len(events) - len(bad) - 1, "duplicate": 1, "rejected": said}
        return Answer(200, {}, json.dumps(body).encode())

    with scripted(rule) as server, Recorder(server.url, spool=tmp_path, linger_seconds=5.0) as recorder:
        say_at_once(recorder, 50)
        assert recorder.close(30.0)
        stats = recorder.stats
        assert server.sizes == [50]
        assert (stats.sent, stats.duplicate, stats.rejected, stats.waiting) == (45, 1, 5, 0)
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert values([line["event"] for line in lines]) == [3, 13, 23, 33, 43]
    assert {(line["field"], line["reason"]) for line in lines} == {("value", "ends in 3")}


@pytest.mark.parametrize("status", [429, 503, 500])
def test_a_server_that_is_full_or_away_gets_the_same_events_again_and_no_sooner_than_it_asks(
    tmp_path: Path, status: int
) -> None:
    refusals = iter([Answer(status, {"Retry-After": "0.3"})])

    with scripted(lambda events, headers: next(refusals, None)) as server:
        with Recorder(server.url, spool=tmp_path, linger_seconds=0.01) as recorder:
            say(recorder, 3)
            wait_until(lambda: len(server.stored) == 3)
            assert server.moments[1] - server.moments[0] >= 0.3
        assert values(server.stored) == [0, 1, 2]


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_a_refused_key_or_address_is_logged_once_and_the_events_wait(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    is_open = threading.Event()

    def rule(events: Events, headers: Headers) -> Answer | None:
        return None if is_open.is_set() else Answer(status, {"Location": "/elsewhere"})

    caplog.set_level(logging.WARNING, "recorder")
    with scripted(rule) as server, Recorder(server.url, "wrong-key", spool=tmp_path, linger_seconds=0.01) as recorder:
        say(recorder, 3)
        wait_until(lambda: len(server.sizes) > 3)
        assert recorder.flush(30.0), "on disk"
        assert (recorder.stats.sent, recorder.stats.waiting) == (0, 3)
        is_open.set()
        wait_until(lambda: recorder.stats.sent == 3)
    assert caplog.text.count(f"HTTP {status}") == 1
    assert "wrong-key" not in caplog.text


def test_a_server_that_does_not_read_gzip_gets_plain_requests(tmp_path: Path) -> None:
    def rule(events: Events, headers: Headers) -> Answer | None:
        return Answer(415) if "content-encoding" in headers else None

    with scripted(rule) as server, Recorder(server.url, spool=tmp_path) as recorder:
        say(recorder, 100)
        assert recorder.close(30.0)
        assert values(server.stored) == list(range(100))
        assert sum("content-encoding" in headers for headers in server.headers) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Sign in</html>",
        b"[]",
        b'{"schema":1,"accepted":2,"duplicate":0,"rejected":[]}',
        b'{"schema":1,"accepted":2,"duplicate":0,"rejected":[{"index":9}]}',
    ],
)
def test_a_200_that_does_not_account_for_every_event_is_no_acknowledgement(tmp_path: Path, body: bytes) -> None:
    answers = iter([Answer(200, {}, body)])
    with scripted(lambda events, headers: next(answers, None)) as server:
        with Recorder(server.url, spool=tmp_path, linger_seconds=0.01) as recorder:
            say_at_once(recorder, 3)
            wait_until(lambda: len(server.stored) == 3)
        assert server.sizes == [3, 3]


def test_a_date_to_retry_after_is_a_number_of_seconds() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    waits = {soon: 100.0, "7": 7.0, "-1": 0.0, "soon": None, "": None}
    for text, expected in waits.items():
        found = ingest._reply(httpx.Response(503, headers={"Retry-After": text}), 1)
        assert found.verdict is Verdict.LATER
        spare = 60.0 if text == soon else 0.0
        assert found.retry_after == (None if expected is None else pytest.approx(expected, abs=spare))


def test_without_a_spool_flush_is_true_only_when_the_server_has_answered() -> None:
    is_open = threading.Event()
    with scripted(lambda events, headers: None if is_open.is_set() else Answer(503)) as server:
        recorder = Recorder(server.url, linger_seconds=0.01)
        say(recorder, 3)
        assert not recorder.flush(0.1)
        is_open.set()
        assert recorder.flush(30.0)
        assert values(server.stored) == [0, 1, 2]
        recorder.close()


def test_what_is_only_in_memory_is_dropped_and_counted_when_the_recorder_closes_on_a_dead_server(
    dead_port: int,
) -> None:
    recorder = Recorder(f"http://127.0.0.1:{dead_port}")
    say(recorder, 3)
    assert not recorder.close(0.2)
    assert (recorder.stats.recorded, recorder.stats.dropped, recorder.stats.waiting) == (3, 3, 0)


def test_a_disk_that_refuses_leaves_the_way_through_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    caplog.set_level(logging.WARNING, "recorder")
    spool = tmp_path / "file"
    with scripted() as server, Recorder(server.url, spool=spool, linger_seconds=0.01) as recorder:
        say(recorder, 300)
        assert recorder.flush(30.0)
        assert values(server.stored) == list(range(300))
        assert recorder.stats.spooled == 0
    assert caplog.text.count("the spool cannot be written") == 1


def test_a_disk_that_hangs_costs_the_agent_its_budget_once_and_then_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead_port: int
) -> None:
    hangs, may_go_on = threading.Event(), threading.Event()
    append = Segment.append

    def slow(self: Segment, events: list[bytes]) -> None:
        hangs.set()
        may_go_on.wait(60.0)
        append(self, events)

    monkeypatch.setattr(Segment, "append", slow)
    url = f"http://127.0.0.1:{dead_port}"
    recorder = Recorder(url, spool=tmp_path, buffer_bytes=10_000, budget_seconds=1.0)
    say(recorder, 1)
    hangs.wait(60.0)
    say(recorder, 1_000, start=1)  # a thousand waits would outlast the test's time limit
    stats = recorder.stats
    assert stats.recorded == 1_001
    assert stats.dropped == stats.recorded - stats.waiting > 900
    assert not recorder.flush(0.05)
    may_go_on.set()
    assert recorder.flush(30.0), "what was dropped is told by the flush that follows it, once"
    assert recorder.stats.waiting == stats.waiting
    assert recorder.close(30.0)
