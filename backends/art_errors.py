"""What ART's client raises, as errors of ours that say what to do; the key is in none of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from backends.art_account import Account
from rl.errors import RlfleetError

ADOPT: Final = (
    "ART's service goes on only from a version that lies with it: `rlfleet adopt --line LINE --reason TEXT` makes the"
    " line's first one there"
)
LONGEST: Final = 500
BUSY: Final = 429
UNKNOWN: Final = 404
REFUSED: Final = (401, 403)
UNCERTAIN: Final = frozenset({408})
"""Of the statuses that say that the request was wrong, those that a proxy gives to one that was passed on too."""


def made_nothing(error: Exception) -> bool:
    """Whether the service certainly made nothing of the request that ended so."""
    import httpx

    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in UNCERTAIN
    return isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)


def is_away(error: Exception) -> bool:
    """Whether the service could not be asked, or cannot answer for now; the same request may well do later."""
    import httpx

    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status >= 500 or status in (*UNCERTAIN, BUSY)
    return isinstance(error, TimeoutError) or isinstance(error.__cause__, httpx.TransportError)


def is_unknown(error: Exception) -> bool:
    """Whether the service does not know what it was asked after."""
    return getattr(error, "status_code", None) == UNKNOWN


def refuses_key(error: Exception) -> bool:
    """Whether the service does not take the key, or not for this."""
    return getattr(error, "status_code", None) in REFUSED


def said(error: Exception, account: Account) -> tuple[str, str]:
    """The name of the error of ``rl.errors`` that it becomes, and its words."""
    if isinstance(error, RlfleetError):
        return type(error).__name__, masked(str(error), account)
    status, what = getattr(error, "status_code", None), type(error).__name__
    if refuses_key(error):
        remedy = "set WANDB_API_KEY on the gpu workers to a key that may train there, and start them again"
        return "PermanentError", f"ART's service refuses the key ({status}): {remedy}"
    words = f"ART's service at {account.base_url}: {what}"
    if isinstance(status, int):
        is_wrong = 400 <= status < 500 and status not in (*UNCERTAIN, BUSY)
        return (
            "PermanentError" if is_wrong else "TransientError",
            f"{words} ({status}): {masked(_body(error), account)}",
        )
    cause = f" ({type(error.__cause__).__name__})" if error.__cause__ is not None else ""
    is_ours = not type(error).__module__.startswith("openai")
    told = f": {masked(str(error), account)}" if is_ours else ""
    return "TransientError", f"{words}{cause}{told}"


def masked(text: str, account: Account) -> str:
    """The words without the key, on one line, and not too many of them."""
    plain = text.replace(account.api_key.get_secret_value(), "***")
    return " ".join(plain.split())[:LONGEST]


def numbers(data: Mapping[str, Any]) -> dict[str, float]:
    """Of what an event says, what is a finite number."""
    found = {str(name): float(value) for name, value in data.items() if isinstance(value, int | float)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def count(value: object) -> int:
    """A number of things that an event says; 0 where it is none."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0


def _body(error: Exception) -> str:
    body = getattr(error, "body", None)
    words = body.get("message") if isinstance(body, Mapping) else body
    return str(words or "it does not say why")
