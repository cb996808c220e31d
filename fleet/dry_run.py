"""What a training would learn from, and what not and why. Nothing is written: the database is asked to see to that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fleet.looking import ASKED, known, look
from rl.assess_prefix import CHARACTERS_A_TOKEN, prompt_parts, text_of
from rl.errors import OffPolicyRefused
from rl.objectives import is_on_policy
from rl.planner import WindowState, train
from rl.usable import NOT_SCORED, Kept, LeftOut, usable
from rl.windows import parse

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.tables import Line
    from db.trajectories import Scored
    from fleet.looking import Look
    from rl.records import Call


NO_WINDOW = "1970-01-01T00:00"
"""Stands for an hour where none waits."""


@dataclass
class Found:
    """What was found in all windows.

    ``otherwise`` is why the objective may not have those that were left out: it matters where nothing is kept.
    """

    windows: list[dict[str, Any]] = field(default_factory=list)
    kept: list[Kept[Scored]] = field(default_factory=list)
    left_out: list[tuple[LeftOut[Scored], str | None]] = field(default_factory=list)
    tokens: float = 0.0
    refused: str | None = None
    otherwise: str | None = None


def dry_run(line: str, window_ids: Sequence[str] | None = None) -> dict[str, Any]:
    """What a training on the windows would be, as one JSON object; without ids, on all that waits on the line.

    Raises:
        InvalidInput: no such line, or it does not say how to train.
        MalformedWindow: a text is not a window id.
        UnknownWindow: no such window on the line, and its source has no row of that hour.
    """
    from db import freezing, lines, planning, readiness
    from db.session import transaction
    from tasks.requests import waiting_windows
    from tasks.training import goes_on_from

    with transaction() as session:
        freezing.only_look(session)
        row = lines.named(session, line)
        state = planning.line_state(session, row)
        names = [one.name for one in waiting_windows(session, row, state)] if window_ids is None else window_ids
        windows = {name: known(session, row, name) for name in sorted(set(names))}
        config = train(state, *(_unseen(name) for name in windows or (NO_WINDOW,))).config
        parent = goes_on_from(session, row.id, next(iter(windows.values()), None), config)
        found = Found()
        for name, window in windows.items():
            _add(session, row, look(session, row, name, window, state.config), config, parent, found)
        ready = readiness.readiness_of(session, row)
    return _shown(line, config, parent, found) | {"readiness": ready.model_dump(mode="json")}


def holds_something(found: Mapping[str, Any]) -> bool:
    """Whether such a training would make a version, as far as can be seen before a judge was asked."""
    pending = any(one["reason"].startswith(ASKED) for one in found["left_out"])
    return bool(found["allowed"] and (found["trajectories"] or pending))


def _unseen(name: str) -> WindowState:
    parsed = parse(name)
    return WindowState(name, "closed", parsed.run, parsed.round)


def _add(session: Session, line: Line, look: Look, config: Mapping[str, Any], parent: str | None, found: Found) -> None:
    """Choose among the window's rows as the freeze does: nothing of another window has a say in that."""
    from db import freezing, windows

    row = windows.find(session, line.id, look.name)
    learned = freezing.learned_from(session, line.id, [row.id] if row else [], config)
    chosen = usable(look.rows, freezing.rule_of(line, config), learned)
    found.kept += chosen.kept
    found.left_out += [_with_reason(one, look.why.get(one.row.trajectory_id)) for one in chosen.left_out]
    in_order = sorted(chosen.kept, key=lambda one: (one.group, one.row.trajectory_id))  # as they are trained in
    for spoken in _spoken(session, look, [one.row.trajectory_id for one in in_order]):
        found.tokens += sum(_tokens(call) for several in spoken.values() for call in several)
        found.refused = found.refused or _refusal(session, line.id, config, spoken, parent)
    if not found.kept:
        scored = [one.row for one in chosen.left_out if one.row.score is not None]
        scored.sort(key=lambda row: (row.comparison, row.trajectory_id))
        for spoken in _spoken(session, look, [row.trajectory_id for row in scored]):
            found.otherwise = found.otherwise or _refusal(session, line.id, config, spoken, parent)
    found.windows.append(
        {
            "window": look.name,
            "state": look.state,
            "reason": look.reason,
            "read_from": look.read_from,
            "trajectories": len(look.rows),
            "kept": len(chosen.kept),
            "left_out": len(chosen.left_out),
            "quarantined": dict(look.unusable.most_common()),
        }
    )


def _spoken(session: Session, look: Look, ids: Sequence[str]) -> Iterator[dict[str, list[Call]]]:
    """The calls of the trajectories, some at a time."""
    from db import calls
    from tasks.training import AT_ONCE

    if look.read_from == "source":
        yield {name: look.spoken[name] for name in ids}
        return
    for first in range(0, len(ids), AT_ONCE):
        yield calls.of_trajectories(session, ids[first : first + AT_ONCE])


def _with_reason(one: LeftOut[Scored], why: str | None) -> tuple[LeftOut[Scored], str | None]:
    """A judge that is yet to be asked is the reason itself; any other way to have no score is a detail of it."""
    if one.reason == NOT_SCORED and why is not None and why.startswith(ASKED):
        return replace(one, reason=why), None
    return one, why if one.reason == NOT_SCORED else None


def _refusal(
    session: Session, line_id: int, config: Mapping[str, Any], spoken: Mapping[str, list[Call]], parent: str | None
) -> str | None:
    """Why the objective may not be trained on these calls, in the words of the training itself."""
    from db import versions
    from tasks.frozen import age_of

    if not is_on_policy(str(config["objective"])):
        return None
    own = versions.places(session, line_id)
    try:
        for trajectory_id, calls in spoken.items():
            age_of(trajectory_id, calls, own, parent)
    except OffPolicyRefused as error:
        return str(error)
    return None


def _tokens(call: Call) -> float:
    """What it was sent and said, by its own count, or else by its characters."""
    if call.prompt_token_ids and call.token_ids is not None:
        return len(call.prompt_token_ids) + len(call.token_ids)
    said = sum(len(text) for _, text in prompt_parts(call)) + len(text_of(call.response))
    return said / CHARACTERS_A_TOKEN


def _shown(line: str, config: Mapping[str, Any], parent: str | None, found: Found) -> dict[str, Any]:
    reasons = Counter(one.reason for one, _ in found.left_out)
    refused = found.refused if found.kept else found.otherwise
    return {
        "schema": 1,
        "line": line,
        "objective": config["objective"],
        "goes_on_from": parent,
        "allowed": refused is None,
        "refused": refused,
        "windows": found.windows,
        "trajectories": [
            {
                "trajectory_id": one.row.trajectory_id,
                "window": one.row.window,
                "group": one.group,
                "score": one.row.score,
                "method": one.row.method,
            }
            for one in sorted(found.kept, key=lambda one: (one.group, one.row.trajectory_id))
        ],
        "left_out": [
            {
                "trajectory_id": one.row.trajectory_id,
                "window": one.row.window,
                "scenario": one.row.scenario_id,
                "score": one.row.score,
                "method": one.row.method,
                "reason": one.reason,
                "detail": detail,
            }
            for one, detail in sorted(found.left_out, key=lambda one: (one[0].row.window, one[0].row.trajectory_id))
        ],
        "sums": {
            "trajectories": len(found.kept),
            "groups": len({one.group for one in found.kept}),
            "left_out": len(found.left_out),
            "reasons": dict(reasons.most_common()),
            "estimated_tokens": round(found.tokens),
        },
    }
