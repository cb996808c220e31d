"""``rlfleet releases``: who answers a line's agents, what the last look at the canary said, and what was before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.terminal import BASE_ANSWERS, AsJson, connect, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from db.release_history import LineHistory
    from db.released import LineReleases
    from rl.live import Look
    from rl.sequential import Evidence
    from rl.stages import Stage


def releases(
    line: Annotated[str | None, typer.Option(help="only of this line of versions")] = None,
    as_json: AsJson = False,
) -> None:
    """What is released, how its canary does, and what was before. Exit code 1 when the last canary was rolled back."""
    from db import release_history
    from db.released import by_line
    from db.session import transaction

    connect()
    with transaction() as session:
        found = release_history.of_lines(session, line)
        now = by_line(session)
    ok = all(one.ok for one in found)
    if as_json:
        typer.echo(
            json.dumps({"schema": 1, "ok": ok, "lines": [release_history.plain(one, now[one.line]) for one in found]})
        )
    else:
        for one in found:
            for words in _lines(one, now[one.line]):
                say(words)
    raise typer.Exit(0 if ok else 1)


def _lines(one: LineHistory, now: LineReleases) -> Iterator[str]:
    """What ``--json`` prints as one object, for people."""
    yield f"line {one.line}{'' if one.ok else ': the last canary was rolled back'}"
    if now.killed:
        back = f"`rlfleet kill --off --line {one.line} --reason TEXT`"
        yield f"  killed: none of its versions answers until {back}; {BASE_ANSWERS}"
    if now.pinned is not None:
        back = f"`rlfleet pin --clear --line {one.line} --reason TEXT`"
        if now.pinned.state == "ready":
            yield f"  pinned: {now.pinned.name} answers everybody until {back}"
        else:
            why = f"{now.pinned.name} is {now.pinned.state}, so the releases decide"
            yield f"  pinned, and not used: {why}; {back} takes the pin away"
    stable, canary = one.live("stable"), one.live("canary")
    if stable is None:
        yield f"  stable: none; {BASE_ANSWERS}"
    else:
        yield f"  stable: {stable.version}, {stable.share} % since {stable.began}: {stable.reason}"
    if canary is not None:
        yield f"  canary: {canary.version}, {canary.share} % since {canary.began}: {canary.reason}"
        yield from _look(canary.look, canary.looked_at)
        if canary.is_unwatched and canary.look is not None:
            yield "    nobody has looked at its traffic for ten minutes: nothing rolls it back by itself"
    for version in one.waiting:
        yield f"  waits for approval: {version}; `rlfleet approve {version}`, or with --refuse --reason TEXT"
    for past in one.releases:
        if past.ended is not None:
            why = f": {past.ended_reason}" if past.ended_reason else ""
            until = f"{past.began} to {past.ended}"
            yield f"  before: {past.version} {past.stage} {past.share} % {until}, the version is {past.state}{why}"


def _look(look: Look | None, at: str | None) -> Iterator[str]:
    if look is None:
        yield "    nobody has looked at its traffic yet; `rlfleet.watch_releases` does so every minute"
        return
    said, progress, counted = look.verdict, look.progress, look.counted
    yield f"    looked at {at}: the test says {said.say}; {look.step.action}: {look.step.reason}"
    for evidence in said.evidence:
        yield f"    {_evidence(evidence)}"
    (failed, requests), (stable_failed, stable_requests) = said.failures.canary, said.failures.stable
    alone = failed - said.failures.others[0]
    of_one = f" ({alone:,} of one agent)" if alone > 1 else ""
    yield f"    failed {failed:,} of {requests:,} requests{of_one} against {stable_failed:,} of {stable_requests:,}"
    several = f"; {counted.several:,} of several versions count for none" if counted.several else ""
    yield f"    trajectories {counted.canary:,} against {counted.stable:,}{several}"
    here = look.here
    yield (
        f"    this stage: {progress.hours:.1f} of {here.soak_hours:g} hours, {progress.requests:,} of "
        f"{here.min_requests:,} requests, {progress.rewards:,} of {here.min_rewards:,} rewards"
    )
    if look.following is not None:
        yield f"    next stage: {look.following.share} %, once {_goal(here, look.following)}"


def _goal(here: Stage, following: Stage) -> str:
    """What the evidence must show beside time and counts."""
    if following.share == 100:
        return "the test says promote"
    if here.tolerance is None:
        return "time and counts are enough"
    return f"it is not worse by {here.tolerance:g} or more"


def _evidence(one: Evidence) -> str:
    from rl.sequential import shown

    return f"{shown(one)}, {_bounds(one.lower, one.upper)}"


def _bounds(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "no bounds yet"
    if low is None:
        return f"at most {high:+.3g}"
    return f"at least {low:+.3g}" if high is None else f"within [{low:+.3g}, {high:+.3g}]"
