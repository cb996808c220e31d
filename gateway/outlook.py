"""Which lines would be answered now, and why others would not: pure, from what is known of releases and engines.

A line is

* ``ok`` when whoever should answer its agents can;
* ``degraded`` when some of its agents get no answer, or the base model's instead of a version's;
* ``idle`` when no version of ours is to answer it, because nothing is released or a person switched it off, and there
  is no base model;
* ``unavailable`` when nobody can answer any of its agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from db.releases import LineReleases
from gateway.bases import lack_of_base
from gateway.errors import Refusal
from gateway.probing import OK
from gateway.routing import BASE, REMOTE, Route, Rules, routes

OURS = frozenset({"adapter", "full"})
"""The kinds of checkpoints that engines of ours load."""

Status = Literal["ok", "degraded", "idle", "unavailable"]


@dataclass(frozen=True)
class Base:
    """The base model: ``is_set`` says that it has a server, ``stands_in`` that it may answer instead of a version."""

    is_set: bool
    stands_in: bool


@dataclass(frozen=True)
class Seen:
    """An engine: ``OK`` or what is wrong with it, and the seconds for which breakers keep versions from it.

    ``takes`` are the kinds of checkpoints that it answers for. An upstream is one that is not ours; ``limited`` says
    that its limits keep calls from it for a moment, ``bases`` which base models it has; None where that is not asked.
    """

    name: str
    state: str
    kept_from: Mapping[str, float]
    takes: frozenset[str] = OURS
    is_upstream: bool = False
    limited: str = ""
    bases: frozenset[str] | None = None

    def lacks(self, route: Route) -> str:
        """Why it cannot answer for the route's version; empty if it can."""
        if self.state != OK:
            return f"{self.name} {self.state}"
        if why := lack_of_base(self.bases, route.base_uri):
            return f"{self.name} {why}"
        seconds = self.kept_from.get(route.version)
        return "" if seconds is None else f"{self.name} failed it, and is not asked for another {seconds:.0f} s"


@dataclass(frozen=True)
class LineOutlook:
    """How a line is, and why; ``why`` is empty when it is ``ok``."""

    status: Status
    why: str = ""


@dataclass(frozen=True)
class Outlook:
    """The engines and upstreams, and the lines by name."""

    engines: Sequence[Seen]
    lines: Mapping[str, LineOutlook]

    @property
    def lacks_engine(self) -> str:
        """Why no engine answers; empty if one does."""
        answering = [engine for engine in self.engines if engine.takes]
        if any(engine.state == OK for engine in answering):
            return ""
        return "; ".join(f"{engine.name} {engine.state}" for engine in answering) or "none has announced itself"

    @property
    def upstreams(self) -> dict[str, str]:
        """How each upstream is, by name."""
        return {one.name: one.limited or one.state for one in self.engines if one.is_upstream}

    @property
    def is_answered(self) -> bool:
        """Whether some agent of some line gets an answer."""
        return any(line.status in ("ok", "degraded") for line in self.lines.values())

    @property
    def why(self) -> str:
        """What is wrong with which lines. An idle one is as it should be."""
        wrong = {name: one.why for name, one in self.lines.items() if one.status in ("degraded", "unavailable")}
        return "; ".join(f"line {name}: {why}" for name, why in wrong.items())

    @property
    def is_hopeless(self) -> bool:
        """Whether no line is answered though one should be."""
        return not self.is_answered and bool(self.why)

    def shown(self) -> dict[str, Any]:
        """As JSON has it; open breakers by version and engine, in seconds until the engine is tried again."""
        breakers: dict[str, dict[str, float]] = {}
        for engine in self.engines:
            for version, seconds in engine.kept_from.items():
                breakers.setdefault(version, {})[engine.name] = round(seconds, 1)
        lines = {name: {"status": one.status, "why": one.why} for name, one in self.lines.items()}
        engines = {one.name: one.state for one in self.engines if not one.is_upstream}
        upstreams = {"upstreams": self.upstreams} if self.upstreams else {}
        return {"engines": engines, **upstreams, "lines": lines, "breakers": breakers}


def outlook(lines: Mapping[str, LineReleases], engines: Sequence[Seen], rules: Rules, base: Base) -> Outlook:
    """The outlook for all lines."""
    return Outlook(engines, {name: of_line(line, engines, rules, base) for name, line in lines.items()})


def of_line(line: LineReleases, engines: Sequence[Seen], rules: Rules, base: Base) -> LineOutlook:
    """The outlook for one line."""
    try:
        taken = _taken(line, rules)
    except Refusal as error:
        return LineOutlook("unavailable", str(error.detail))
    lacks = {route: why for route in taken if (why := _lack(route, engines, base))}
    whys = "; ".join(lacks.values())
    if not lacks:
        return LineOutlook("ok")
    if len(lacks) < len(taken) or any(_stands_in(route, base) for route in lacks):
        return LineOutlook("degraded", whys)
    return LineOutlook("idle" if all(route.version == BASE for route in taken) else "unavailable", whys)


def _taken(line: LineReleases, rules: Rules) -> list[Route]:
    """The routes that agents of the line get."""
    found, reached = [], 0.0
    for end, route in routes(line, rules):
        if end > reached:
            found.append(route)
            reached = end
    return found


def _lack(route: Route, engines: Sequence[Seen], base: Base) -> str:
    """Why whoever should answer on the route cannot; empty if it can."""
    if route.version == BASE:
        return _lack_of_base(route, base)
    able = [engine for engine in engines if route.kind in engine.takes]
    nobody = "no engine has announced itself" if route.kind != REMOTE else "no upstream serves it"
    lacks = [engine.lacks(route) for engine in able] or [nobody]
    if not all(lacks):
        return ""
    instead = ", the base model answers" if base.stands_in else ""
    return f"nobody answers for {route.version} ({'; '.join(lacks)}){instead}"


def _lack_of_base(route: Route, base: Base) -> str:
    where = route.reason.removeprefix("fallback: ")
    if not base.is_set:
        return f"{where}, and UPSTREAM_BASE_URL is not set"
    return f"{where}, and RL_FALLBACK_TO_BASE is off" if route.is_fallback and not base.stands_in else ""


def _stands_in(route: Route, base: Base) -> bool:
    return route.version != BASE and base.stands_in
