"""Alerts go out: each row of ``alerts`` is posted and mailed until each receiver has taken it, at least once."""

from __future__ import annotations

import logging
import ssl
import time
from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from tasks.settings import AlertSettings, alert_settings
from worker.app import app
from worker.crash import crash_point

if TYPE_CHECKING:
    from db.alerts import Alert

log = get_task_logger(__name__)

TIMEOUT_SECONDS = 5.0
MOST = 20
"""Alerts sent by one message: the queue is shared with the reconciler."""
BUDGET_SECONDS = 20.0
"""No try begins later than this: one takes its time where a receiver does, and the task has a limit."""
TEXT_LENGTH = 300


@app.task(name="rlfleet.alert", time_limit=60)
def alert(period_seconds: int = 0) -> str:
    """Send the alerts that are due. With a period, only the first of that tick does.

    Each channel has its own success: an alert goes again to those alone that did not take it. A channel that gives no
    answer at all is not tried again by this message: its receiver is away, and the other alerts would wait for it too.
    """
    from db import alerts
    from db.slots import take_slot

    settings = alert_settings()
    if not settings.channels:
        return (
            "RLFLEET_ALERT_WEBHOOK is not set, nor is RLFLEET_SMTP_URL: alerts stay in the table, and "
            "`rlfleet status` shows them"
        )
    if period_seconds and not take_slot("alert", period_seconds):
        return "alert: this tick is taken"
    sent, until = 0, time.monotonic() + BUDGET_SECONDS
    away: dict[str, str] = {}
    for _ in range(MOST):
        taken = alerts.take_due(1) if len(away) < len(settings.channels) and time.monotonic() < until else []
        if not taken:
            break
        errors = _send(settings, taken[0], away)
        if errors:
            alerts.failed(taken[0].alert_id, "; ".join(errors))
        else:
            alerts.sent(taken[0].alert_id)
            sent += 1
    return f"sent {sent}"


def _send(settings: AlertSettings, one: Alert, away: dict[str, str]) -> list[str]:
    """Why the alert is not with every receiver; ``away`` gets the channels that gave no answer, with the error."""
    from db import alerts
    from tasks.alert_mail import mail

    errors = []
    for channel in settings.channels:
        if channel in one.taken:
            continue
        send = _post if channel == "webhook" else mail
        error, answered = (away[channel], True) if channel in away else send(settings, one)
        if error is None:
            crash_point("before-sent", "alert")
            alerts.took(one.alert_id, channel)
            continue
        errors.append(error)
        if not answered:
            away[channel] = error
        log.warning("alert %s was not taken by the %s, try %s: %s", one.alert_id, channel, one.tries, error)
    return errors


def _post(settings: AlertSettings, one: Alert) -> tuple[str | None, bool]:
    """Why the receiver did not take the alert, or None; and whether it answered at all. Never names URL or token."""
    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each URL, and a webhook's URL is its password
    headers = {"User-Agent": "rlfleet"}
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
    url = settings.webhook.get_secret_value() if settings.webhook else ""
    try:
        with (
            httpx.Client(
                timeout=TIMEOUT_SECONDS,
                follow_redirects=False,
                trust_env=False,
                verify=ssl.create_default_context(),  # httpx's own knows neither the system's CAs nor SSL_CERT_FILE
            ) as client,
            client.stream("POST", url, json=body(one), headers=headers) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # ValueError: of a host or a header
        if refusal := _of_certificate(error):
            words = f"the receiver's certificate is not valid ({refusal}); set SSL_CERT_FILE for your own CA"
            return words, False
        return f"no answer ({type(error).__name__}); is RLFLEET_ALERT_WEBHOOK right and the receiver up?", False
    if answer.is_success:
        return None, True
    hint = "; redirects are not followed" if answer.is_redirect else ""
    return f"it answered {status}{hint}", True


def _of_certificate(error: BaseException | None) -> str | None:
    """What is wrong with the certificate, where an error came of that."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def body(one: Alert) -> dict[str, object]:
    """The JSON that is posted. A second copy of the same alert has the same ``id``."""
    return {
        "schema": 1,
        "id": one.alert_id,
        "name": one.name,
        "subject": one.subject,
        "detail": one.detail,
        "created_at": one.created_at,
        "text": text(one),
    }


def text(one: Alert) -> str:
    """The alert in one line, escaped as Slack asks for, so that no job's error can mention a whole channel."""
    about = ", ".join(f"{key} {_plain(value)}" for key, value in one.detail.items() if value not in (None, "", []))
    line = " ".join(f"rlfleet {one.name}: {one.subject}{f' ({about})' if about else ''}".split())
    line = line if len(line) <= TEXT_LENGTH else line[: TEXT_LENGTH - 3] + "..."
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
