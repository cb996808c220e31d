"""What can be wrong with a webhook: mail goes out all the same, and nothing secret is shown."""

from __future__ import annotations

import ssl
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import tasks
from rl.errors import InvalidSettings
from tasks import settings as task_settings
from tests.tasks.test_alert_mail import Hook, Start, due_again, error, raised, signed, start

__all__ = ["signed", "start"]
pytestmark = pytest.mark.usefixtures("fresh")


def point_at(webhook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ALERT_WEBHOOK", webhook)
    task_settings.alert_settings.cache_clear()


@pytest.mark.parametrize(
    "webhook",
    [f"http://{'a' * 70}.example/s3cret", "http://[::1", "http://h:99999/s3cret", "http://\N{SNOWMAN}..x/s3cret"],
)
def test_mail_goes_out_whatever_is_wrong_with_the_address(
    start: Start, webhook: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    point_at(webhook, monkeypatch)
    raised()
    raised(subject="job 43")
    assert tasks.alert() == "sent 0"
    assert len(server.got) == 2
    assert (error() or "").endswith("is RLFLEET_ALERT_WEBHOOK right and the receiver up?")
    assert "s3cret" not in caplog.text + (error() or "")


def test_mail_goes_out_whatever_the_token_is(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pydantic import SecretStr

    server = start()
    point_at("http://127.0.0.1:9/", monkeypatch)
    settings = task_settings.alert_settings()
    monkeypatch.setattr(settings, "token", SecretStr("s3cret\N{SNOWMAN}"))
    raised()
    assert tasks.alert() == "sent 0"
    assert (len(server.got), "no answer (UnicodeEncodeError)" in (error() or "")) == (1, True)
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("token", ["s3cret\N{SNOWMAN}", "s3cret\n", "two s3crets", "s3cret\x7f"])
def test_a_token_that_fits_no_header_is_refused_without_being_shown(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLFLEET_ALERT_TOKEN", token)
    task_settings.alert_settings.cache_clear()
    with pytest.raises(InvalidSettings, match=r"RLFLEET_ALERT_TOKEN.*ASCII letters, digits and punctuation") as caught:
        tasks.alert()
    assert "s3cret" not in str(caught.value)


def test_a_certificate_of_an_own_ca_is_believed_where_it_is_named(
    start: Start, signed: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.setattr(sys.modules["tasks.alert"], "TIMEOUT_SECONDS", 30.0)
    kind = type("Fresh", (Hook,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.socket = signed[1].wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            point_at(f"https://127.0.0.1:{server.server_port}/s3cret", monkeypatch)
            raised()
            assert tasks.alert() == "sent 0"
            said = (
                "the receiver's certificate is not valid (self-signed certificate); set SSL_CERT_FILE for your own CA"
            )
            assert (error(), kind.posts) == (said, 0)
            due_again()
            monkeypatch.setenv("SSL_CERT_FILE", str(signed[0]))
            assert (tasks.alert(), kind.posts) == ("sent 1", 1)
        finally:
            server.shutdown()
            thread.join()
