"""What the Hub's client raises, as errors of ours that say what to do. Neither the token nor signed addresses are in
them: of an answer there is its status and what the Hub said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from rl.errors import HubRefused, HubUnavailable, InvalidInput, PermanentError, RlfleetError

AGAIN = (408, 409, 412, 425, 429)
"""Statuses that say "not now": two commits at once, too many requests."""
LATER = "; then give the same command again, which goes on from here, or add --later: the fleet publishes it by itself"
"""What a person may do about ``HubUnavailable``."""
LONGEST = 200
"""Characters that are shown of what the Hub said."""


@contextmanager
def named(repository: str, endpoint: str) -> Iterator[None]:
    """Raise an error of ours where the client of the Hub raises one of its own.

    Raises:
        InvalidInput: the Hub takes no such name.
        HubRefused: asking again cannot help.
        HubUnavailable: it may.
    """
    import httpx2
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except HFValidationError:
        remedy = "a repository is ORG/NAME, of letters, digits, single - and . and _"
        raise InvalidInput("hub", repository, remedy) from None
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise _ours(error, repository, endpoint) from error


def is_silence(error: HubUnavailable) -> bool:
    """Whether the Hub took a connection and then said, or took, nothing until the client gave it up."""
    import httpx2

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, httpx2.ReadTimeout | httpx2.WriteTimeout):
        cause = cause.__cause__
    return cause is not None


def _ours(error: BaseException, repository: str, endpoint: str) -> RlfleetError:
    from huggingface_hub.errors import HfHubHTTPError

    cause = error
    while not isinstance(cause, HfHubHTTPError) and cause.__cause__ is not None:
        cause = cause.__cause__  # the client wraps what a thread of an upload raised
    if isinstance(cause, HfHubHTTPError):
        return _of_status(int(cause.response.status_code), cause.server_message or "", repository, endpoint)
    if isinstance(cause, ValueError) and not isinstance(cause, json.JSONDecodeError):
        return HubRefused(f"{repository}: the Hub does not take it: {_short(str(cause))}")
    if isinstance(cause, OSError) and cause.filename:  # a file of ours, such as one that retention removed meanwhile
        return PermanentError(f"{cause.filename}: {cause.strerror}; nothing is published without it")
    what = type(cause).__name__
    remedy = "see that this machine reaches it (HF_ENDPOINT, proxies)"
    return HubUnavailable(f"{repository}: the Hub at {endpoint} did not answer ({what}); {remedy}")


def _of_status(status: int, said: str, repository: str, endpoint: str) -> RlfleetError:
    words = f" ({_short(said)})" if said.strip() else ""
    if status == 401:
        remedy = f"set HF_TOKEN to a valid one with write access, from {endpoint}/settings/tokens"
        return HubRefused(f"{repository}: the Hub refuses the token (401){words}; {remedy}")
    if status == 403:
        remedy = "name a repository of yours, or use a token with write access to this one"
        return HubRefused(f"{repository}: the token may not write there (403){words}; {remedy}")
    if status >= 500 or status in AGAIN:
        return HubUnavailable(f"{repository}: the Hub at {endpoint} failed ({status}){words}")
    remedy = "see that the repository is there and that the token may write to it"
    return HubRefused(f"{repository}: the Hub refuses ({status}){words}; {remedy}")


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
