"""Which scenarios of a line's logs are kept for evaluation, and which of them one evaluation asks about.

A scenario is held out by a hash of its id, in every window and for ever, so it can be in no dataset. Of the hours that
an evaluation looks at, the earlier half is for choosing a checkpoint and the later half for the decision: what chose a
checkpoint never says how good it is. A scenario that both halves hold belongs to one of them, by a hash too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rl.errors import InvalidInput
from rl.objective_parts import refusal
from rl.scoring_config import Judge
from rl.training import Config
from rl.windows import hour_of, parse

LOGGED = "logged"
"""What answers are compared with where the line has no stable version: those that the logs hold."""

ASKED = {"model", "rubric", "seed", "temperature", "max_tokens", "last_messages", "max_characters"}
"""Settings of a judge that its verdict on two answers depends on."""
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


class HeldOut(Config):
    """The part of a line's logged scenarios that is never trained on, and who judges answers to it.

    ``share`` of the scenarios, by a hash with ``salt``. An evaluation looks at the ``hours`` up to the newest that the
    version was trained on, and asks about at most ``scenarios`` scenarios of each half, ``samples`` times each. Either
    ``judge`` compares each answer with the stable version's, or ``verifier`` says right or wrong of it: an ``http(s)``
    URL, or ``module:function`` on the worker's path. Answers have at most ``max_tokens`` tokens; one is greedy, several
    ``samples`` are drawn at ``temperature``.
    """

    share: float = Field(0.1, gt=0, lt=1)
    salt: str = ""
    hours: int = Field(168, ge=2)
    scenarios: int = Field(300, ge=1)
    samples: int = Field(1, ge=1, le=100)
    max_tokens: int = Field(512, ge=1)
    temperature: float = Field(0.7, gt=0, le=2)
    judge: Judge | None = None
    verifier: str | None = None

    @field_validator("verifier")
    @classmethod
    def _is_a_url_or_a_function(cls, verifier: str | None) -> str | None:
        if verifier is None or FUNCTION.fullmatch(verifier):
            return verifier
        where = urlsplit(verifier)
        if where.scheme not in ("http", "https") or not where.hostname:
            remedy = "write an http(s) URL, or module:function on the worker's path"
            raise PydanticCustomError("verifier", remedy)
        if where.username or where.password or where.query:
            remedy = "it is stored and shown: put the key into RLFLEET_VERIFIER_KEY, and no query into the URL"
            raise PydanticCustomError("hidden_input", remedy)
        return verifier

    @model_validator(mode="after")
    def _has_one_who_judges(self) -> Self:
        if (self.judge is None) == (self.verifier is None):
            raise refusal("held_out.judge", self.judge, "give either held_out.judge or held_out.verifier")
        return self


class LoggedSet(Config):
    """Held-out scenarios of the hours from ``since`` to before ``until``, both window ids; otherwise as ``HeldOut``.

    ``against`` is what answers are compared with: the name of a version, or ``logged`` for what the logs hold; empty
    with a verifier, which judges the stable version's answers by themselves. ``beside`` is a window id: where the other
    half of the hours begins (of a decision) or ends, if that one chooses; empty: nothing is chosen.
    """

    split: Literal["validation", "held_out"]
    since: str
    until: str
    share: float
    salt: str
    count: int
    samples: int = 1
    max_tokens: int = 512
    temperature: float = 0.7
    judge: Judge | None = None
    verifier: str | None = None
    against: str = ""
    beside: str = Field("", exclude_if=lambda beside: not beside)

    @property
    def sampled_at(self) -> float:
        """The temperature of answers: 0 where there is one a scenario."""
        return self.temperature if self.samples > 1 else 0.0

    @property
    def other_half(self) -> tuple[str, str] | None:
        """The window ids that the other half lies between; None where nothing is chosen."""
        if not self.beside:
            return None
        return (self.until, self.beside) if self.split == "validation" else (self.beside, self.since)

    def as_asked(self) -> Self:
        """What verdicts depend on: without how fast the judge is asked, and what it costs."""
        if self.judge is None:
            return self
        return self.model_copy(update={"judge": Judge(**self.judge.model_dump(include=ASKED))})


def is_held_out(scenario_id: str, share: float, salt: str) -> bool:
    """Whether the scenario is kept for evaluation: the first 53 bits of a SHA-256 are below the share."""
    head = hashlib.sha256(f"{salt}\0{scenario_id}".encode("utf-8", "replace")).digest()[:8]
    return (int.from_bytes(head, "big") >> 11) / 2**53 < share


def sets_of(
    hours: Sequence[str], held: HeldOut, against: str, *, known: Sequence[str] | None = None, chooses: bool = False
) -> tuple[LoggedSet, LoggedSet]:
    """What a version that was trained on ``hours`` is evaluated on: to choose a checkpoint, and for the decision.

    The ``held.hours`` hours that end with the newest of ``hours``, or fewer where the oldest of ``hours`` and ``known``
    is later than their first, are halved; the later half, which has the odd one, is for the decision. Of one hour the
    earlier half is empty. Rounds of runs count for nothing. With a verifier ``against`` is left out unless it is
    ``logged``. ``chooses`` says that the version has several checkpoints: then the halves have nothing in common.

    Raises:
        InvalidInput: none of ``hours`` is an hour of logs.
        MalformedWindow: a text is not a window id.
    """
    begun = _begun(hours)
    if not begun:
        raise InvalidInput("hours", list(hours), "held-out scenarios need a version that was trained on hours of logs")
    until = max(begun) + timedelta(hours=1)
    since = until - timedelta(hours=held.hours)
    if known is not None:
        since = max(since, min(begun + _begun(known)))
    middle = since + timedelta(hours=(until - since) // timedelta(hours=1) // 2)
    rival = against if held.judge is not None or against == LOGGED else ""
    ends = (hour_of(until).text, hour_of(since).text) if chooses else ("", "")
    to_choose, to_decide = _set("validation", since, middle, held, rival), _set("held_out", middle, until, held, rival)
    return to_choose.model_copy(update={"beside": ends[0]}), to_decide.model_copy(update={"beside": ends[1]})


def _begun(names: Sequence[str]) -> list[datetime]:
    return [parsed.hour for parsed in map(parse, names) if parsed.hour is not None]


def _set(
    split: Literal["validation", "held_out"], since: datetime, until: datetime, held: HeldOut, against: str
) -> LoggedSet:
    return LoggedSet(
        split=split,
        since=hour_of(since).text,
        until=hour_of(until).text,
        share=held.share,
        salt=held.salt,
        count=held.scenarios,
        samples=held.samples,
        max_tokens=held.max_tokens,
        temperature=held.temperature,
        judge=held.judge,
        verifier=held.verifier,
        against=against,
    )
