"""Where exporters of request logs put things: the same fact has a dozen names and three or four places.

Names are compared without case, ``-`` and ``_``, so ``X-Session-Id``, ``session_id`` and ``sessionId`` are one. The
first name of a list that is there wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rl.errors import InvalidRow
from sources.values import decode, number, tidy

Json = Mapping[str, Any]

TRAJECTORY = ("trajectoryid", "episodeid", "sessionid", "conversationid", "threadid", "chatid", "traceid")
AGENT = ("agentid", "agent", "agentname", "userid", "user", "enduser", "customeridentifier")
SCENARIO = ("scenarioid", "scenario", "taskid", "problemid", "groupid")
TURN = ("turn", "turnnumber", "step", "stepnumber")
REWARD = ("reward", "totalreward", "score", "feedbackrating")
ARCHETYPE = ("archetype",)
CONSENT = ("consent", "trainingconsent")
STARTED = ("starttime", "startedat", "requestcreatedat", "requestedat", "timestamp", "createdat")
ENDED = ("endtime", "endedat", "completedat", "responsecreatedat", "receivedat")
STATUS = ("statuscode", "responsestatus", "httpstatus", "status")
ERROR = ("error", "errormessage", "errorstr", "exception")

PREFIXES = ("", "x", "request", "litellm", "xlitellm", "helicone", "xhelicone")
"""What proxies put before a name."""

NESTED = frozenset(
    ("headers", "requestheaders", "metadata", "properties", "requestproperties", "tags", "scores", "requestermetadata")
)
"""Objects beside or inside a body in which callers and proxies leave what they know of a call."""

DEEPEST = 2
"""LiteLLM keeps what the caller said in ``metadata.requester_metadata``."""


def facts(*places: Json) -> dict[str, Any]:
    """What ``places`` and the objects named ``NESTED`` in them say, by plain name; what is found first stays."""
    found: dict[str, Any] = {}
    for place in places:
        for name, value in _named(place, DEEPEST):
            if value is not None and value != "":
                found.setdefault(plain(name), value)
    return found


def one_of(names: tuple[str, ...], found: Json) -> Any:
    """The value of the first of ``names`` that is there, with or without a proxy's prefix; None where none is."""
    for name in names:
        for prefix in PREFIXES:
            if prefix + name in found:
                return found[prefix + name]
    return None


def identity(value: Any) -> str | None:
    """An id as text; None for what is no id, such as a list or nothing at all."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return tidy(str(value)).strip() or None


def reward(value: Any) -> float | None:
    """A number, also as text or as ``{"value": 1}``, and 1 or 0 for a thumb up or down; None for anything else."""
    if isinstance(value, Mapping):
        value = value.get("value")
    try:
        return number(int(value) if isinstance(value, bool) else value, "reward")
    except InvalidRow:
        return None


def decoded(value: Any) -> Any:
    """``value``, read as JSON where it is text that holds an object or a list."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return decode(value, "")[0]
        except InvalidRow:
            return value
    return value


def plain(name: str) -> str:
    """A name without case and without what joins its words."""
    return "".join(character for character in name.lower() if character.isalnum())


def _named(place: Json, depth: int) -> Iterator[tuple[str, Any]]:
    """What stands in the object itself, then what stands in the objects in it."""
    yield from place.items()
    for name, value in place.items() if depth else ():
        if plain(name) in NESTED:
            yield from _named(_object(decoded(value)), depth - 1)


def _object(value: Any) -> Json:
    """An object; a list of names with values, as some write scores, becomes one."""
    if isinstance(value, list):
        return {str(one["name"]): one.get("value") for one in value if isinstance(one, dict) and "name" in one}
    return value if isinstance(value, dict) else {}
