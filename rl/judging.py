"""What a judge compares: the trajectories of one scenario, as it sees them, in groups of a size it can hold.

Trajectories that look the same are judged once. A judge's scores mean something among those that it saw together, so
that a group has a name, which is the hash of everything that its answer depends on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rl.config import digest
from rl.observed import final_pnl
from rl.records import Call, Trajectory
from rl.rubrics import rubric_text
from rl.scoring_config import Judge

VERSION = "1"
"""Of the prompt, the parsing and the way of splitting; raised when any of them changes."""
LATER = ("outcome", "gameKnowledge")
"""What of a trajectory's metadata nobody knew at the time."""
NOT_A_NAME = re.compile(r"[^A-Za-z0-9 _-]+")


@dataclass(frozen=True)
class View:
    """What a judge sees of one or more trajectories that look the same: facts, and messages in order."""

    ids: tuple[str, ...]
    archetype: str | None
    facts: dict[str, Any]
    messages: list[dict[str, Any]]
    tools: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Group:
    """Views that are judged together. ``sha256`` names the group, and the answer that a ledger keeps of it."""

    views: tuple[View, ...]
    rubric: str
    sha256: str

    @property
    def rubric_hash(self) -> str:
        return digest(self.rubric)

    @property
    def ids(self) -> list[str]:
        """Every trajectory of the group."""
        return [one for view in self.views for one in view.ids]


def split(trajectories: Sequence[Trajectory], judge: Judge, method: str = "judge") -> tuple[list[Group], list[View]]:
    """Groups of ``group_min`` to ``group_max`` distinct views of one scenario, and views that are too few to compare.

    Sizes differ by one at most; who goes with whom is drawn by the seed, from what the trajectories hold.
    """
    views = _views(trajectories, judge)
    if len(views) < judge.group_min:
        return [], views
    random.Random(f"{judge.seed} {digest([view.sha256 for view in views])}").shuffle(views)
    several = -(-len(views) // judge.group_max)
    return [_group(views[place::several], judge, method) for place in range(several)], []


def _group(views: Iterable[View], judge: Judge, method: str) -> Group:
    ordered = tuple(sorted(views, key=lambda view: view.sha256))
    rubric = rubric_text(judge.rubric, [view.archetype for view in ordered])
    asked = judge.model_dump(
        mode="json",
        include={"model", "seed", "temperature", "max_tokens", "last_messages", "max_characters"},
    )
    return Group(ordered, rubric, digest(method, VERSION, asked, rubric, [view.sha256 for view in ordered]))


def _views(trajectories: Sequence[Trajectory], judge: Judge) -> list[View]:
    """One view for all trajectories that look the same, in the order of their hashes."""
    found: dict[str, View] = {}
    for one in sorted(trajectories, key=lambda trajectory: trajectory.trajectory_id):
        seen = view(one, judge.judge_sees_outcomes)
        before = found.get(seen.sha256)
        if before is not None:
            seen = View(
                (*before.ids, *seen.ids), before.archetype, before.facts, before.messages, before.tools, seen.sha256
            )
        found[seen.sha256] = seen
    return [found[sha256] for sha256 in sorted(found)]


def view(trajectory: Trajectory, with_outcomes: bool = False) -> View:
    """What a judge sees. Nothing that became known only later is in it, unless ``with_outcomes``."""
    facts = _facts(trajectory)
    if with_outcomes:
        facts["outcomes"] = [{"turn": turn.turn, **turn.outcome} for turn in trajectory.turns if turn.outcome]
        facts["known_later"] = [trajectory.metadata[name] for name in LATER if trajectory.metadata.get(name)]
    messages = transcript(trajectory.calls) if trajectory.calls else _turns(trajectory)
    tools = tuple(sorted({_tool_name(tool) for call in trajectory.calls for tool in call.tools or ()}))
    sha256 = digest(facts, messages, list(tools))
    return View((trajectory.trajectory_id,), trajectory.archetype, facts, messages, tools, sha256)


def transcript(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """The conversation that the calls are pieces of, each message once.

    What a call was sent begins with what was said before, wholly or to some point; the rest of it is new.
    """
    told: list[dict[str, Any]] = []
    before: list[dict[str, Any]] = []
    for call in calls:
        sent = [message.model_dump(exclude_none=True) for message in call.messages]
        said = call.response.model_dump(exclude_none=True)
        told += [*sent[shared_length([before, sent]) :], said]
        before = [*sent, said]
    return told


def shared_length(several: Sequence[Sequence[dict[str, Any]]]) -> int:
    """How many messages all of the conversations begin with."""
    length = 0
    for messages in zip(*several, strict=False):
        if any(message != messages[0] for message in messages):
            break
        length += 1
    return length


def plain_name(name: str | None) -> str | None:
    """A name without anything that could be read as more than a name: letters, digits, space, ``_`` and ``-``."""
    return " ".join(NOT_A_NAME.sub(" ", name).split())[:40] or None if name else None


def _facts(trajectory: Trajectory) -> dict[str, Any]:
    actions = [turn.action for turn in trajectory.turns if turn.action is not None]
    known = [one.success for one in actions if one.success is not None]
    facts = {
        "archetype": plain_name(trajectory.archetype),
        "profit_and_loss": final_pnl(trajectory),
        "turns": len(trajectory.turns) or len({call.turn for call in trajectory.calls}),
        "total_reward": trajectory.reward,
        "actions": len(actions) if trajectory.turns else None,
        "success_rate": round(sum(known) / len(known), 4) if known else None,
        "errors": sum(bool(one.error) for one in actions) if actions else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _turns(trajectory: Trajectory) -> list[dict[str, Any]]:
    """The turns of a trajectory whose calls nobody logged, without what became known of them later."""
    told = []
    for turn in trajectory.turns:
        action = turn.action.model_dump(exclude_none=True) if turn.action else None
        told.append({"role": "turn", "turn": turn.turn, "state": turn.state, "action": action})
    return told


def _tool_name(tool: dict[str, Any]) -> str:
    function = tool.get("function")
    return str(function.get("name") if isinstance(function, dict) else tool.get("name"))
