"""Who answers a call: pure functions from what is released and configured to a route.

A call of a **version** is answered by it in any state but ``rejected``, so that a run can play a candidate, and by
nothing else: another model's answer in the middle of an episode would spoil it as training data.
A call of a **line** is decided in this order:

1. ``USE_RL_MODEL`` off, or the line's kill row: the base model.
2. ``RL_MODEL_VERSION`` names a ready version of this line: that version, for ``RL_ROLLOUT_PERCENTAGE`` of agents.
   A version that is not ready stops its line. An unknown name stops every line: whose it is, nobody knows, and a
   typing error must not pass silently.
3. The line's pin row names a ready version: that version, for the same percentage. A version that was ready when it
   was pinned and is rejected now was taken back by a later decision, so the pin no longer counts.
4. The live releases. An agent has a fixed place in [0, 100) on its line; below the canary's share it gets the
   canary, else below the stable share the stable version, else the base model. A share is the smaller of the
   release row's and ``RL_ROLLOUT_PERCENTAGE``, so an agent that has a version keeps it while shares grow.
5. No live release: the base model as a **fallback**, which ``RL_FALLBACK_TO_BASE`` can forbid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from db.releases import LineReleases, LiveRelease, NamedVersion
from gateway.errors import Refusal, unknown_model
from rl.remote import is_remote

BASE = "base"
"""What the answer's ``X-Rlfleet-Version`` says when no version of ours spoke."""

REMOTE = "remote"
"""The kind of a checkpoint that no engine of ours can load."""
OUTSIDE = "outside the share"
PINNED = "pinned"


@dataclass(frozen=True)
class Rules:
    """The settings that bear on the choice. ``pinned`` is what the database says of ``pin``."""

    use_rl_model: bool = True
    pin: str = ""
    pinned: NamedVersion | None = None
    rollout_percentage: float = 100


@dataclass(frozen=True)
class Route:
    """The answer's origin: a version with its checkpoint, or the base model when ``version`` is ``base``.

    ``reason`` is the short phrase of ``X-Rlfleet-Reason``. ``is_fallback`` says that the base model stands in for lack
    of a version, and ``why`` says in words why it is the base model. ``is_exact`` says that the caller named the
    version: nothing else may answer in its place. ``kind`` is the checkpoint's: ``adapter``, ``full`` or ``remote``,
    and ``base_uri`` the full weights that an adapter is for.
    """

    line: str
    base_model: str
    version: str = BASE
    uri: str = ""
    reason: str = ""
    is_fallback: bool = False
    is_exact: bool = False
    why: str = ""
    kind: str = "adapter"
    base_uri: str = ""


def place(line: str, agent: str) -> float:
    """The agent's fixed place in [0, 100) on the line: the first 53 bits of a SHA-256, evenly spread."""
    head = hashlib.sha256(f"{line}\0{agent}".encode()).digest()[:8]
    return (int.from_bytes(head, "big") >> 11) * 100 / 2**53


def of_version(version: NamedVersion) -> Route:
    """The route of a call that names the version.

    Raises:
        Refusal: 404, the version is rejected.
    """
    if version.state == "rejected":
        raise unknown_model(version.name, f"it was rejected ({version.reason or 'no reason was given'}); name another")
    route = Route(version.line, version.base_model, version.name, version.uri, "named by the caller", is_exact=True)
    return replace(route, kind=_kind(version), base_uri=version.base_uri)


def of_line(line: LineReleases, agent: str, rules: Rules) -> Route:
    """The route of a call that names the line.

    Raises:
        Refusal: 503, ``RL_MODEL_VERSION`` cannot be used.
    """
    at = place(line.line, agent)
    return next(route for end, route in routes(line, rules) if at < end)


def routes(line: LineReleases, rules: Rules) -> Iterator[tuple[float, Route]]:
    """The line's routes in their order, each with the place in (0, 100] at which it ends; the last ends at 100.

    Raises:
        Refusal: as for ``of_line``.
    """
    if killed := _killed(line, rules):
        yield 100, Route(line.line, line.base_model, reason="killed", why=killed)
        return
    if (pinned := _pinned(line, rules)) is not None:
        route = Route(line.line, line.base_model, pinned.name, pinned.uri, PINNED)
        yield rules.rollout_percentage, replace(route, kind=_kind(pinned), base_uri=pinned.base_uri)
    elif not line.releases:
        why = f"the line {line.line!r} has no released version yet"
        yield 100, Route(line.line, line.base_model, reason="fallback: no released version", is_fallback=True, why=why)
    else:
        for release in line.releases:
            share = min(release.share, rules.rollout_percentage)
            route = Route(line.line, line.base_model, release.version, release.uri, _reason(release, share))
            yield share, replace(route, kind=_kind(release), base_uri=release.base_uri)
    why = "this agent is outside the released share"
    yield 100, Route(line.line, line.base_model, reason=OUTSIDE, why=why)


def _kind(checkpoint: LiveRelease | NamedVersion) -> str:
    return REMOTE if is_remote(checkpoint.uri) else checkpoint.kind


def _killed(line: LineReleases, rules: Rules) -> str:
    """Why no version of ours may answer; empty where one may."""
    if not rules.use_rl_model:
        return "USE_RL_MODEL is off"
    back = f"rlfleet kill --off --line {line.line} --reason TEXT"
    return f"the line {line.line!r} is switched off ({back} switches it on again)" if line.killed else ""


def _pinned(line: LineReleases, rules: Rules) -> NamedVersion | None:
    """The one version that answers this line, if a variable or a row says so."""
    if rules.pin and (rules.pinned is None or rules.pinned.line == line.line):
        return _checked_pin(rules)
    return line.pinned if line.pinned is not None and line.pinned.state == "ready" else None


def _reason(release: LiveRelease, share: float) -> str:
    return f"canary {share:g} %" if release.stage == "canary" else release.stage


def _checked_pin(rules: Rules) -> NamedVersion:
    if rules.pinned is None or rules.pinned.state != "ready":
        what = "there is no such version" if rules.pinned is None else f"it is {rules.pinned.state}"
        raise Refusal(
            503,
            "invalid_pin",
            f"RL_MODEL_VERSION = {rules.pin!r}: {what}; name a ready version, or unset it and restart the gateway",
            {"Retry-After": "60"},
        )
    return rules.pinned
