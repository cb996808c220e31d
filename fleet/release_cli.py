"""``rlfleet deploy``, ``rollback``, ``approve``, ``reject``, ``pin``, ``kill``: a person's word on a line's traffic."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fleet.noted import actor, noted
from fleet.terminal import BASE_ANSWERS, AsJson, connect, errors, say
from rl.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.deployments import Strategy

Named = Annotated[str, typer.Argument(help="such as babylon-agent-v1.0.3, or v1.0.3 of the line")]
Line = Annotated[str, typer.Option(help="the line of versions")]
LineOfIt = Annotated[str | None, typer.Option(help="the version's line; left out: main for a short name")]
Reason = Annotated[str, typer.Option(help="why, for whoever reads it later")]

STRATEGIES = ("immediate", "gradual", "test")


def deploy(
    version: Named,
    reason: Reason,
    strategy: Annotated[
        str | None,
        typer.Option(help="immediate, gradual (a canary that grows), or test (a fixed share); else the line's"),
    ] = None,
    share: Annotated[int | None, typer.Option(help="per cent of the agents that it has in the end")] = None,
    unevaluated: Annotated[bool, typer.Option("--unevaluated", help="although no evaluation is stored")] = False,
    line: LineOfIt = None,
    as_json: AsJson = False,
) -> None:
    """Release a version, by hand. Exit code 0 when it has what was asked for, whether or not it had before."""
    from db import deployments

    if strategy is not None and strategy not in STRATEGIES:
        raise InvalidInput("strategy", strategy, f"give one of {', '.join(STRATEGIES)}")
    _check(reason)
    connect()
    detail = {"line": line, "strategy": strategy, "share": share, "reason": reason}
    detail |= {"unevaluated": True} if unevaluated else {}
    with noted("deploy", version, **detail) as session:
        found = deployments.deploy(
            session,
            _full(session, version, line),
            reason,
            actor(),
            strategy=cast("Strategy | None", strategy),
            share=share,
            unevaluated=unevaluated,
        )
    if not found.evaluated:
        warning = f"rlfleet: {found.version} was released without any evaluation"
        errors.print(warning, highlight=False, markup=False, soft_wrap=True)
    words = f"{found.version} is the {found.stage} version of line {found.line} for {found.share} % of its agents"
    watch = "; `rlfleet releases` says how it does" if found.stage == "canary" else ""
    _tell(as_json, asdict(found), f"{words}{_before(found.changed)}{watch}")


def rollback(
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="the version that is to be stable")] = None,
    line: Line = "main",
    as_json: AsJson = False,
) -> None:
    """End the canary, or go back to the version that was stable before. The version that is left is rejected."""
    from db import rollbacks

    _check(reason)
    connect()
    with noted("rollback", line, to=to, reason=reason) as session:
        made = rollbacks.roll_back(session, line, to and _full(session, to, line), reason, actor())
    still = made.pinned
    words = f"{made.stable} is the stable version of line {line} for {made.share} % of its agents"
    words += _before(made.changed) + (f"; left: {', '.join(made.left)}" if made.left else "")
    if still:
        words += f"; but the pin on {still} holds, and that one answers all agents: "
        words += f"see `rlfleet pin --clear --line {line} --reason TEXT`"
    _tell(as_json, asdict(made), words)


def approve(
    version: Named,
    refuse: Annotated[bool, typer.Option("--refuse", help="say no: the version is rejected")] = False,
    reason: Annotated[str, typer.Option(help="why it is refused")] = "",
    line: LineOfIt = None,
    as_json: AsJson = False,
) -> None:
    """Say yes, or no, to a decision that waits for a person. Saying the same again changes nothing."""
    from db import approvals

    if refuse:
        _check(reason)
    connect()
    with noted("refuse" if refuse else "approve", version, line=line, reason=reason or None) as session:
        name = _full(session, version, line)
        if refuse:
            found = approvals.refuse(session, name, reason, actor())
        else:
            found = approvals.approve(session, name, actor())
    words = f"{found.version}: approval {found.approval} by {found.by} at {found.at}"
    stage = f"; it is the {found.stage} version" if found.stage else ""
    _tell(as_json, asdict(found), f"{words}{stage}")


def reject(version: Named, reason: Reason, line: LineOfIt = None, as_json: AsJson = False) -> None:
    """Give a candidate up, such as one that cannot be evaluated: nothing waits for it, and it is never released."""
    from db import rejecting

    _check(reason)
    connect()
    with noted("reject", version, line=line, reason=reason) as session:
        found = rejecting.reject(session, _full(session, version, line), reason, actor())
    words = f"{found.version} is rejected{_before(found.changed)} ({found.reason})"
    _tell(as_json, asdict(found), words)


def pin(
    reason: Reason,
    version: Annotated[str | None, typer.Argument(help="a ready version, for all of the line's agents")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="go by the releases again")] = False,
    line: Line = "main",
    as_json: AsJson = False,
) -> None:
    """Let one version answer all agents of a line, whatever is released, until the pin is cleared."""
    from db import controls, lines, versions

    if (version is None) != clear:
        raise InvalidInput("version", version, "name a version to pin, or give --clear")
    _check(reason)
    connect()
    with noted("pin", line, version=version, reason=reason) as session:
        line_id = lines.named(session, line).id
        name = _full(session, version, line) if version else None
        version_id = versions.named(session, name)[0].id if name else None
        changed = controls.pin(session, line_id, version_id, reason, actor())
    words = f"line {line}: {name} answers all agents" if name else f"line {line}: no pin, the releases say who answers"
    _tell(as_json, {"line": line, "pinned": name, "changed": changed}, words + _before(changed))


def kill(
    reason: Reason,
    on: Annotated[bool, typer.Option("--on/--off", help="on: the base model answers, if there is one")] = True,
    line: Line = "main",
    as_json: AsJson = False,
) -> None:
    """Take all versions of a line away from its agents at once, or give them back. Nothing else changes."""
    from db import controls, lines

    _check(reason)
    connect()
    with noted("kill" if on else "kill off", line, reason=reason) as session:
        changed = controls.kill(session, lines.named(session, line).id, on, reason, actor())
    words = BASE_ANSWERS if on else "the releases say who answers"
    _tell(as_json, {"line": line, "killed": on, "changed": changed}, f"line {line}: {words}{_before(changed)}")


def _check(reason: str) -> None:
    if not reason.strip():
        raise InvalidInput("reason", reason, "say why, in a few words: it is stored with the change")


def _full(session: Session, name: str, line: str | None) -> str:
    """The version's whole name, where it was given as ``v1.0.3`` of the line; refused where it is of another."""
    from db import lines

    return lines.full_name(session, name, line)


def _before(changed: bool) -> str:
    return "" if changed else ", as before"


def _tell(as_json: bool, found: dict[str, Any], words: str) -> None:
    if as_json:
        typer.echo(json.dumps({"schema": 1, **found}))
    else:
        say(words)
