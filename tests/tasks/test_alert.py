"""Alerts go to a real local HTTP server that fails, hangs and recovers."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import tasks
from db import alerts
from db.session import transaction
from rl.errors import InvalidSettings
from tasks import settings as task_settings
from tasks.alert import body, text
from tasks.maintain import reconcile_once
from tests.tasks.rows import add_line, asked, claimed, one, rows

pytestmark = pytest.mark.usefixtures("fresh")


HANGS_SECONDS = 60.0


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent; ``answer`` is the status, or ``hang``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Takes)
        self.answer: int | str = 200
        self.got: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.hung = 0
        self.over = threading.Event()


class Takes(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.answer == "hang":
            self.server.hung += 1
            self.server.over.wait(HANGS_SECONDS)
            return
        self.server.keys.append(self.headers["Authorization"])
        if self.path == "/hook/s3cret":
            self.server.got.append(json.loads(content))
        self.send_response(int(self.server.answer))
        if self.server.answer == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setattr(sys.modules["tasks.alert"], "TIMEOUT_SECONDS", 30.0)
        monkeypatch.setenv("RLFLEET_ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/hook/s3cret")
        task_settings.alert_settings.cache_clear()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()
    task_settings.alert_settings.cache_clear()


@pytest.fixture(autouse=True)
def _settings_read_anew() -> Iterator[None]:
    task_settings.alert_settings.cache_clear()
    yield
    task_settings.alert_settings.cache_clear()


def raised(name: str, subject: str, **detail: object) -> bool:
    with transaction() as session:
        return alerts.raise_alert(session, name, subject, detail)


def due_again(alert_id: int) -> None:
    rows("update rlfleet.alerts set next_at = now() where id = :id returning id", id=alert_id)


def test_a_failed_job_is_told_once_with_what_a_chat_shows(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    from db import jobs

    monkeypatch.setenv("RLFLEET_ALERT_TOKEN", "t0ken")
    job_id = asked(add_line(), kind="score")
    jobs.fail(claimed(job_id), "NoTrainingData: <!channel> nothing & no one\nto learn from", retry=False)

    assert [tasks.alert(), tasks.alert()] == ["sent 1", "sent 0"]
    ((sent,), (key,)) = receiver.got, receiver.keys
    created = one("select created_at, sent_at, error from rlfleet.alerts")
    assert key == "Bearer t0ken"
    assert sent.pop("detail") == {
        "job": job_id,
        "kind": "score",
        "line": "main",
        "attempt": 1,
        "fence": 1,
        "error": "NoTrainingData: <!channel> nothing & no one\nto learn from",
    }
    assert {name: sent[name] for name in ("schema", "id", "name", "subject")} == {
        "schema": 1,
        "id": 1,
        "name": "job_failed",
        "subject": f"job {job_id}",
    }
    assert sent["created_at"] == created.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert sent["text"].startswith(f"rlfleet job_failed: job {job_id} (")
    assert "error NoTrainingData: &lt;!channel&gt; nothing &amp; no one to learn from" in sent["text"]
    assert "\n" not in sent["text"]
    assert (created.sent_at is not None, created.error) == (True, None)


def test_what_is_not_taken_is_tried_again_later_and_later(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answer = 500
    raised("kind_paused", "train")
    for seconds in (30, 60, 120):
        before = one("select now()")[0]
        assert tasks.alert() == "sent 0"
        row = one("select id, error, next_at, now() as after from rlfleet.alerts")
        wait = timedelta(seconds=seconds)
        assert before + wait <= row.next_at <= row.after + wait
        assert row.error == "it answered 500"
        assert alerts.take_due(1) == []
        due_again(row.id)
    receiver.answer = 204
    assert tasks.alert() == "sent 1"
    assert [sent["id"] for sent in receiver.got] == [1, 1, 1, 1], "the id lets a receiver drop doubles"
    assert "s3cret" not in caplog.text


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = 302
    raised("kind_paused", "train")
    assert tasks.alert() == "sent 0"
    assert one("select error from rlfleet.alerts").error == "it answered 302; redirects are not followed"
    assert len(receiver.keys) == 1


def test_a_receiver_that_hangs_holds_up_one_alert_for_a_bounded_time(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tasks.alert"], "TIMEOUT_SECONDS", 1.0)
    receiver.answer = "hang"
    for kind in ("train", "score", "decide"):
        raised("kind_paused", kind)
    started = time.monotonic()
    assert tasks.alert() == "sent 0"
    assert time.monotonic() - started < HANGS_SECONDS / 2
    assert receiver.hung == 1
    errors = [row.error for row in rows("select error from rlfleet.alerts order by id")]
    remedy = "no answer (ReadTimeout); is RLFLEET_ALERT_WEBHOOK right and the receiver up?"
    assert errors == [remedy, None, None]
    monkeypatch.setattr(sys.modules["tasks.alert"], "TIMEOUT_SECONDS", 30.0)
    receiver.answer = 200
    assert tasks.alert() == "sent 2"


def test_one_that_is_refused_does_not_hold_up_the_others(receiver: Receiver) -> None:
    for kind in ("train", "score"):
        raised("kind_paused", kind)
    receiver.answer = 400
    assert tasks.alert() == "sent 0"
    assert [sent["subject"] for sent in receiver.got] == ["train", "score"]


def test_many_senders_take_each_alert_once(receiver: Receiver) -> None:
    for number in range(6):
        raised("kind_paused", str(number))
    threads = [threading.Thread(target=tasks.alert) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sent["id"] for sent in receiver.got) == [1, 2, 3, 4, 5, 6]


def test_two_beats_send_in_one_tick_once(receiver: Receiver) -> None:
    assert [tasks.alert(10**9), tasks.alert(10**9)] == ["sent 0", "alert: this tick is taken"]


def test_without_a_webhook_they_stay_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ALERT_WEBHOOK", "")
    raised("kind_paused", "train")
    assert "RLFLEET_ALERT_WEBHOOK is not set" in tasks.alert()
    assert [(one_.name, one_.tries) for one_ in alerts.waiting()] == [("kind_paused", 0)]


def test_a_webhook_that_is_none_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ALERT_WEBHOOK", "hooks.example/s3cret")
    with pytest.raises(InvalidSettings, match="RLFLEET_ALERT_WEBHOOK") as caught:
        tasks.alert()
    assert "s3cret" not in str(caught.value)


def test_the_text_is_one_line_of_bounded_length() -> None:
    words = "long\n" * 200
    shown = text(alerts.Alert(1, "queue_old", "gpu", {"queues": ["a", "b"], "none": None, "words": words}, "", 1, None))
    assert shown.startswith("rlfleet queue_old: gpu (queues a,b, words long long")
    assert len(shown) == 300
    assert shown.endswith("...")
    assert body(alerts.Alert(7, "n", "s", {}, "2025-01-15T10:00:00Z", 1, None))["text"] == "rlfleet n: s"


@pytest.mark.parametrize("ring", [True, False])
def test_the_reconciler_rings_when_one_is_due(
    broker: object, request: pytest.FixtureRequest, ring: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redis import Redis

    from tests.tasks.rows import messages

    assert isinstance(broker, Redis)
    if ring:
        request.getfixturevalue("receiver")
    raised("kind_paused", "train")
    reconcile_once()
    assert [sent.task for sent in messages(broker).get("maint", [])] == ["rlfleet.alert"] * ring
