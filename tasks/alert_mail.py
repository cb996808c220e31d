"""An alert as an e-mail: what happened, since when, what to do, and where to look."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
import time
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from celery.utils.log import get_task_logger

from tasks.alert_remedies import remedy_of
from tasks.settings import AlertSettings

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

    from db.alerts import Alert

log = get_task_logger(__name__)

TIMEOUT_SECONDS = 5.0
"""For each answer of the mail server but that to the text."""
TEXT_SECONDS = 15.0
"""Some servers look for spam before they answer to the text; one that is left then may have taken it."""
TOTAL_SECONDS = 20.0
"""For all answers together."""
PORTS = {"smtp": 25, "smtps": 465}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DETAIL_LENGTH = 2000


def mail(settings: AlertSettings, one: Alert) -> tuple[str | None, bool]:
    """Why the mail server did not take the alert, or None; and whether it answered. Never names user or password."""
    try:
        refused = _send(settings, message(settings, one))
    except smtplib.SMTPResponseException as error:
        return f"mail: the server answered {error.smtp_code} ({_plain(error.smtp_error)})", True
    except smtplib.SMTPRecipientsRefused as error:
        return f"mail: the server refused every recipient ({_codes(error.recipients)})", True
    except ssl.SSLCertVerificationError as error:
        return (
            f"mail: the server's certificate is not valid ({error.verify_message}); set SSL_CERT_FILE for your own CA",
            False,
        )
    except (OSError, smtplib.SMTPException) as error:
        said = str(error) if isinstance(error, smtplib.SMTPNotSupportedError) else type(error).__name__
        return f"mail: no answer ({said}); is RLFLEET_SMTP_URL right and the server up?", False
    except ValueError as error:  # of the URL, and not of this alert alone
        remedy = "RLFLEET_SMTP_URL needs a valid name of a host, and an ASCII user and password"
        return f"mail: it cannot be sent ({type(error).__name__}); {remedy}", False
    if refused:  # the others have it: a second copy for them would help nobody
        log.warning(
            "alert %s: the mail server refused %s of its recipients (%s)", one.alert_id, len(refused), _codes(refused)
        )
    return None, True


def _send(settings: AlertSettings, made: EmailMessage) -> dict[str, tuple[int, bytes]]:
    """Hand the message over; the recipients that were refused while others were taken.

    Raises:
        smtplib.SMTPNotSupportedError: the server has no TLS, and a password would travel in the clear.
    """
    url = urlsplit(settings.smtp_url.get_secret_value() if settings.smtp_url else "")
    host, port = url.hostname or "", url.port or PORTS[url.scheme]
    context = ssl.create_default_context()
    is_tls = url.scheme == "smtps"
    server = _TlsSession(host, port, context=context) if is_tls else _Session(host, port)
    try:
        server.ehlo()
        if not is_tls and server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
        elif not is_tls and url.password and host not in LOOPBACK:
            raise smtplib.SMTPNotSupportedError("it offers no STARTTLS, and a password must not travel in the clear")
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
        return server.send_message(made, from_addr=settings.mail_from, to_addrs=settings.recipients)
    finally:
        with contextlib.suppress(OSError):  # whatever it says to that, a message that it took is taken
            server.quit()
        server.close()


class _Session(smtplib.SMTP):
    """Gives each answer its time, and all of them together theirs."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        self._until, self._patience = time.monotonic() + TOTAL_SECONDS, TIMEOUT_SECONDS
        super().__init__(host, port, timeout=TIMEOUT_SECONDS, **options)

    def getreply(self) -> tuple[int, bytes]:
        left = self._until - time.monotonic()
        if left <= 0:
            self.close()
            raise smtplib.SMTPServerDisconnected("it answered too slowly")
        if self.sock is not None:
            self.sock.settimeout(min(self._patience, left))
        return super().getreply()

    def data(self, msg: Buffer | str) -> tuple[int, bytes]:
        self._patience = TEXT_SECONDS
        try:
            return super().data(msg)
        finally:
            self._patience = TIMEOUT_SECONDS


class _TlsSession(_Session, smtplib.SMTP_SSL):
    """The same under TLS from the first byte."""


def message(settings: AlertSettings, one: Alert) -> EmailMessage:
    """The e-mail. A second copy of the same alert has the same Message-ID."""
    raised = datetime.fromisoformat(one.created_at)
    made = EmailMessage()
    made["Subject"] = " ".join(f"rlfleet {one.name}: {one.subject}".split())[:150]
    made["From"], made["To"] = settings.mail_from, ", ".join(settings.recipients)
    made["Date"] = format_datetime(raised)
    made["Message-ID"] = f"<rlfleet-{one.alert_id}-{raised:%Y%m%d%H%M%S}@{settings.mail_from.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(text(settings, one))
    return made


def text(settings: AlertSettings, one: Alert) -> str:
    """The e-mail's text: one part a paragraph."""
    about = "\n".join(f"  {name}: {_shown(value)}" for name, value in one.detail.items() if value not in (None, "", []))
    parts = [
        f"What: {one.name}, {one.subject}",
        f"Since: {one.created_at}" + (f" (try {one.tries})" if one.tries > 1 else ""),
        f"About:\n{about}" if about else "",
        f"Do: {remedy_of(one.name, one.detail)}",
        f"See: {link(settings.admin_url, one)}" if settings.admin_url else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def link(admin_url: str, one: Alert) -> str:
    """The page about what the alert is about; the overview where there is none."""
    base = admin_url.rstrip("/")
    if isinstance(one.detail.get("job"), int):
        return f"{base}/jobs/{one.detail['job']}"
    if one.name.startswith("canary_") or one.name == "approval_waiting" or one.name.isupper():
        return f"{base}/versions/{quote(one.subject, safe='')}"
    return f"{base}/"


def _shown(value: object) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    shown = shown if len(shown) <= DETAIL_LENGTH else f"{shown[:DETAIL_LENGTH]}..."
    return shown.replace("\r", "").replace("\n", "\n    ")


def _plain(said: bytes | str) -> str:
    return " ".join((said.decode("utf-8", "replace") if isinstance(said, bytes) else said).split())[:200]


def _codes(refused: dict[str, tuple[int, bytes]]) -> str:
    return ", ".join(sorted({str(code) for code, _ in refused.values()}))
