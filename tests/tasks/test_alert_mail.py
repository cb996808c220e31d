"""Alerts go to a real SMTP server that refuses, hangs, shows a wrong certificate and recovers."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import tasks
from db import alerts
from db.session import transaction
from rl.errors import InvalidSettings
from tasks import alert_mail
from tasks import settings as task_settings
from tasks.alert_remedies import REMEDIES, remedy_of
from tests.tasks.mail_server import Conduct, certificate, mail_server
from tests.tasks.rows import one, rows

pytestmark = pytest.mark.usefixtures("fresh")

Start = Callable[..., Conduct]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a mail server, and tells the alerts of it."""
    monkeypatch.delenv("RLFLEET_ALERT_WEBHOOK", raising=False)
    for name, seconds in (("TIMEOUT_SECONDS", 30.0), ("TEXT_SECONDS", 60.0), ("TOTAL_SECONDS", 90.0)):
        monkeypatch.setattr(alert_mail, name, seconds)
    with ExitStack() as stack:

        def make(scheme: str = "smtp", account: str = "", **how: Any) -> Conduct:
            conduct = Conduct(**how)
            port = stack.enter_context(mail_server(conduct))
            monkeypatch.setenv("RLFLEET_SMTP_URL", f"{scheme}://{account}127.0.0.1:{port}")
            monkeypatch.setenv("RLFLEET_ALERT_FROM", "rlfleet@example.org")
            monkeypatch.setenv("RLFLEET_ALERT_TO", "ops@example.org, eve@example.org")
            monkeypatch.setenv("RLFLEET_ADMIN_URL", "https://fleet.example.org/")
            task_settings.alert_settings.cache_clear()
            return conduct

        yield make
    task_settings.alert_settings.cache_clear()


def raised(name: str = "job_dead", subject: str = "job 42", **detail: object) -> None:
    with transaction() as session:
        alerts.record(session, name, subject, {"job": 42, "kind": "train", "error": "Stalled: one\ntwo"} | detail)


def due_again() -> None:
    rows("update rlfleet.alerts set next_at = now() returning id")


def error() -> str | None:
    found: str | None = one("select error from rlfleet.alerts order by id limit 1").error
    return found


def test_it_says_what_happened_since_when_and_what_to_do(start: Start) -> None:
    server = start()
    raised()
    assert [tasks.alert(), tasks.alert()] == ["sent 1", "sent 0"]
    (got,) = server.got
    created = one("select created_at, sent_at, taken from rlfleet.alerts")
    since = created.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (created.sent_at is not None, created.taken) == (True, ["mail"])
    assert (got.sender, got.recipients) == ("rlfleet@example.org", ["ops@example.org", "eve@example.org"])
    assert (got.message["Subject"], got.message["To"]) == (
        "rlfleet job_dead: job 42",
        "ops@example.org, eve@example.org",
    )
    assert got.message["Message-ID"] == f"<rlfleet-1-{created.created_at:%Y%m%d%H%M%S}@example.org>"
    assert got.message["Auto-Submitted"] == "auto-generated"
    assert got.message.get_content() == (
        f"What: job_dead, job 42\n\nSince: {since}\n\n"
        "About:\n  job: 42\n  kind: train\n  error: Stalled: one\n    two\n\n"
        "Do: read `rlfleet jobs show 42` and the child's log; remove the cause, `rlfleet jobs requeue 42`\n\n"
        "See: https://fleet.example.org/jobs/42\n"
    )


def test_a_subject_cannot_add_headers(start: Start) -> None:
    server = start()
    raised("canary_unwatched", "v1\r\nBcc: all@example.org", job=None, remedy="roll it back")
    assert tasks.alert() == "sent 1"
    assert server.got[0].message["Subject"] == "rlfleet canary_unwatched: v1 Bcc: all@example.org"
    assert server.got[0].message["Bcc"] is None
    assert "Do: roll it back" in server.got[0].message.get_content()


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_under_tls_with_a_login(
    start: Start, signed: tuple[Path, ssl.SSLContext], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(signed[0]))
    tls = {"context": signed[1], "starttls": scheme == "smtp", "implicit": scheme == "smtps"}
    server = start(scheme, "me:p%40ss@", login="me:p@ss", **tls)
    raised()
    assert tasks.alert() == "sent 1", error()
    assert (server.got[0].tls, server.got[0].login) == (True, "me:p@ss")


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_certificate_of_nobody_is_not_trusted(
    start: Start, signed: tuple[Path, ssl.SSLContext], scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    tls = {"context": signed[1], "starttls": scheme == "smtp", "implicit": scheme == "smtps"}
    server = start(scheme, "me:s3cret@", login="me:s3cret", **tls)
    raised()
    assert tasks.alert() == "sent 0"
    assert (error() or "").startswith("mail: the server's certificate is not valid (self-signed certificate)")
    assert (server.got, "s3cret" in caplog.text) == ([], False)


def test_a_password_does_not_travel_in_the_clear(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start("smtp", "me:s3cret@", login="me:s3cret")
    monkeypatch.setattr(alert_mail, "LOOPBACK", ())
    raised()
    assert tasks.alert() == "sent 0"
    assert "offers no STARTTLS" in (error() or "")
    assert "s3cret" not in (error() or "")
    assert server.got == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"fault": 451}, "mail: the server answered 451 (not now)"),
        ({"fault": "close"}, "mail: no answer (SMTPServerDisconnected); is RLFLEET_SMTP_URL right and the server up?"),
        ({"fault": "hang"}, "mail: no answer (SMTPServerDisconnected); is RLFLEET_SMTP_URL right and the server up?"),
        ({"refused": {"ops@example.org", "eve@example.org"}}, "mail: the server refused every recipient (550)"),
        ({"login": "me:other"}, "mail: the server answered 535 (wrong user or password)"),
    ],
)
def test_what_is_not_taken_is_sent_later(
    start: Start, how: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start("smtp", "me:s3cret@" if "login" in how else "", **how)
    raised()
    before = one("select now()")[0]
    with monkeypatch.context() as patch:
        if how.get("fault") == "hang":
            patch.setattr(alert_mail, "TIMEOUT_SECONDS", 0.3)
        assert (tasks.alert(), error()) == ("sent 0", said)
    row, wait = one("select next_at, now() as after from rlfleet.alerts"), timedelta(seconds=30)
    assert before + wait <= row.next_at <= row.after + wait
    server.fault, server.refused, server.login = None, set(), "me:s3cret" if "login" in how else None
    due_again()
    assert tasks.alert() == "sent 1", error()
    assert len(server.got) == 1
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("how", [{"bye": "421 too late"}, {"slow": {"QUIT": 30}}, {"slow": {".": 1}}])
def test_what_the_server_took_is_not_sent_again(
    start: Start, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the text is handed over, no answer but that to the text is waited for any longer than a moment."""
    server, data = start(**how), alert_mail._Session.data

    def in_haste(session: alert_mail._Session, text: Any) -> tuple[int, bytes]:
        monkeypatch.setattr(alert_mail, "TIMEOUT_SECONDS", 0.3)
        session._patience = 0.3
        return data(session, text)

    if "slow" in how:
        monkeypatch.setattr(alert_mail._Session, "data", in_haste)
    raised()
    assert (tasks.alert(), error()) == ("sent 1", None)
    assert len(server.got) == 1


def test_a_server_that_is_slow_every_time_is_left(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_mail, "TOTAL_SECONDS", 0.5)
    server = start(slow={"EHLO": 0.2, "MAIL": 0.2, "RCPT": 0.2})
    raised()
    said = "mail: no answer (SMTPServerDisconnected); is RLFLEET_SMTP_URL right and the server up?"
    assert (tasks.alert(), error()) == ("sent 0", said)
    assert server.got == []


@pytest.mark.parametrize(
    "url", ["smtp://me:s3cr\u00e9t@127.0.0.1:{port}", "smtp://me:s3cr%C3%A9t@mail..example.org:{port}"]
)
def test_a_url_that_the_protocol_cannot_say(start: Start, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start(login="me:s3cret")
    port = os.environ["RLFLEET_SMTP_URL"].rpartition(":")[2]
    monkeypatch.setenv("RLFLEET_SMTP_URL", url.format(port=port))
    task_settings.alert_settings.cache_clear()
    raised()
    assert tasks.alert() == "sent 0"
    assert (error() or "").startswith("mail: it cannot be sent (Unicode")
    assert "s3cr" not in (error() or "")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, start: Start, closed_port: int) -> None:
    start()
    monkeypatch.setenv("RLFLEET_SMTP_URL", f"smtp://127.0.0.1:{closed_port}")
    task_settings.alert_settings.cache_clear()
    for _ in range(3):
        raised()
    assert tasks.alert() == "sent 0"
    assert [row.error for row in rows("select error from rlfleet.alerts order by id")] == [
        "mail: no answer (ConnectionRefusedError); is RLFLEET_SMTP_URL right and the server up?",
        None,
        None,
    ], "whoever is away is asked once a message"


def test_who_was_not_refused_has_it(start: Start) -> None:
    server = start(refused={"eve@example.org"})
    raised()
    assert tasks.alert() == "sent 1"
    assert server.got[0].recipients == ["ops@example.org"]


class Hook(BaseHTTPRequestHandler):
    """Counts what it is sent, and answers ``status``."""

    status, posts = 200, 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).posts += 1
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hook(start: Start, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hook]]:
    kind = type("Fresh", (Hook,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("RLFLEET_ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
        yield kind
        server.shutdown()
        thread.join()


def test_a_mail_server_that_is_away_does_not_repeat_webhooks(start: Start, hook: type[Hook]) -> None:
    server = start(fault="close")
    raised()
    raised(subject="job 43")
    for _ in range(3):
        assert tasks.alert() == "sent 0"
        due_again()
    assert hook.posts == 2
    assert [row.taken for row in rows("select taken from rlfleet.alerts")] == [["webhook"], ["webhook"]]
    assert len(alerts.waiting()) == 2, "not everybody has them"
    server.fault = None
    assert tasks.alert() == "sent 2"
    assert (hook.posts, len(server.got)) == (2, 2)


def test_a_webhook_that_refuses_does_not_repeat_mails(start: Start, hook: type[Hook]) -> None:
    server = start()
    hook.status = 500
    raised()
    for _ in range(2):
        assert tasks.alert() == "sent 0"
        due_again()
    assert (len(server.got), error()) == (1, "it answered 500")
    hook.status = 200
    assert tasks.alert() == "sent 1"
    assert (len(server.got), hook.posts) == (1, 3)


def test_new_ones_come_before_those_that_wait_for_one_channel(start: Start, hook: type[Hook]) -> None:
    start(fault="close")
    raised()
    tasks.alert()
    due_again()
    raised(subject="job 43")
    assert [one_.subject for one_ in alerts.take_due(2)] == ["job 42", "job 43"]
    due_again()
    assert alerts.take_due(1)[0].subject == "job 43"


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"RLFLEET_SMTP_URL": "mail.example.org/s3cret"}, "RLFLEET_SMTP_URL"),
        ({"RLFLEET_SMTP_URL": "smtp://me:s3cret@:25"}, "RLFLEET_SMTP_URL"),
        ({"RLFLEET_SMTP_URL": "smtp://me:s3cret@host:99999"}, "RLFLEET_SMTP_URL"),
        ({"RLFLEET_ALERT_TO": ""}, "RLFLEET_SMTP_URL"),
        ({"RLFLEET_ALERT_TO": "ops@example.org, nobody"}, "RLFLEET_ALERT_TO"),
        ({"RLFLEET_ALERT_FROM": "a@b\r\nBcc: c@d"}, "RLFLEET_ALERT_FROM"),
        ({"RLFLEET_ADMIN_URL": "fleet.example.org"}, "RLFLEET_ADMIN_URL"),
    ],
)
def test_settings_that_cannot_be_used(
    start: Start, variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    task_settings.alert_settings.cache_clear()
    with pytest.raises(InvalidSettings, match=name) as caught:
        tasks.alert()
    assert "s3cret" not in str(caught.value)


def test_every_remedy_can_be_said() -> None:
    assert all(remedy_of(name, {}) for name in REMEDIES)
    assert remedy_of("TRUNCATION", {}).startswith("read `rlfleet report VERSION`")
    assert remedy_of("queue_old", {"queue": "gpu"}) == (
        "start a worker of queue gpu if capacity is 0, else add workers or wait"
    )
