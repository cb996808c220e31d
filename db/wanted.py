"""What the planner still wants in words, what became of the job that is to bring it, and what a person can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import planning
from db.dispatch import Spec
from db.tables import Line, Version
from rl.deciding import outside_run
from rl.line_state import LineState, VersionState, Want

ENDED = ("failed", "dead", "cancelled")
"""The states of a job that does nothing more by itself and brought nothing."""
FOUND = text("select id, state, error from rlfleet.jobs where kind = :kind and line_id = :line and dedup_key = :key")


def became(session: Session, line_id: int, line: LineState, want: Want) -> str:
    """What is missing, and the state of its job; where that ended in vain, the commands that go on."""
    key = Spec(want.kind, line_id, want.inputs, want.config, want.queue).dedup_key
    row = session.execute(FOUND, {"kind": want.kind, "line": line_id, "key": key}).one_or_none()
    if row is None:
        return f"{about(want)}: the next look of the fleet asks for it"
    remedy = ""
    if row.state in ENDED:
        name = want.inputs.get("version") or want.inputs.get("candidate")
        version = line.version(name)
        remedy = f"; `rlfleet jobs requeue {row.id}`"
        if version is not None and version.state == "candidate":
            remedy += f", or `rlfleet reject {name} --reason TEXT`"
    return f"{about(want)}: job {row.id} is {row.state}" + (f" ({row.error})" if row.error else "") + remedy


def about(want: Want) -> str:
    """The job in words."""
    inputs = want.inputs
    if want.kind == "collect" and "first" in inputs:
        return f"collect {inputs['window']}, scenarios {inputs['first']} to {inputs['first'] + inputs['count'] - 1}"
    if want.kind != "evaluate":
        return f"{want.kind} {inputs.get('window') or inputs.get('candidate') or inputs['windows'][0]}"
    where = f"verdicts of {inputs['version']}" + (f" at step {inputs['step']}" if "step" in inputs else "")
    first, sample = int(inputs.get("first", 0)), inputs.get("sample", 0)
    count = int(inputs.get("count", want.config["count"] - first))
    where += f" on {want.config['split']} scenarios {first} to {first + count - 1}"
    where += f", sample {sample}" if sample else ""
    where += f" ({inputs['missing']} without a verdict)" if "missing" in inputs else ""
    return where + (f" (the logs held {inputs['held']}, and more for others)" if "held" in inputs else "")


def candidates(session: Session) -> list[dict[str, Any]]:
    """Every candidate outside a run of a line that evaluates, with its ``line`` and what it ``waits`` for, in words."""
    with_some = select(Version.line_id).where(Version.state == "candidate")
    found: list[dict[str, Any]] = []
    for line in session.scalars(select(Line).where(Line.id.in_(with_some)).order_by(Line.id)):
        try:
            state = planning.line_state(session, line)
        except ValidationError:
            found.append({"line": line.name, "version": None, "waits": ["the line's config is not understood"]})
            continue
        for version in state.versions:
            is_judged = state.config.validation is not None or state.config.held_out is not None
            if is_judged and version.state == "candidate" and version.run is None:
                waits = list(_waits(session, line.id, state, version))
                found.append({"line": line.name, "version": version.name, "waits": waits})
    return found


def _waits(session: Session, line_id: int, line: LineState, version: VersionState) -> Iterator[str]:
    for want in outside_run(replace(line, canary=None), version):
        if want.kind == "decide" and line.canary is not None:
            yield f"the decision waits until {line.canary} is no canary any more"
        else:
            yield became(session, line_id, line, want)
