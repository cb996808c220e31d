"""The steps of an agent as logs hold them, in any of their shapes, as turns and calls.

Three shapes are known, and mixtures of them, with names in camelCase or snake_case: the recorder's
(``environmentState``, ``llmCalls``, ``action``, ``reward``), the richer one of agent plugins (``observation``,
``callId``, ``actionName``, ``immediateReward``), and one call a step (``observation``, ``prompt``, ``response``,
``executionResult``).

Steps are put in the order of their numbers. A step that is there twice counts once; where two different ones have
one number, or one has none, all are numbered from 0 on in the order of number and place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rl.errors import InvalidRow
from rl.records import Action, Call, Turn
from sources.calls import call_of, model_beside
from sources.values import Reason, clean, decode, first, flag, invalid, moment, number, whole

Json = Mapping[str, Any]

STATE_NUMBERS = {
    "agentBalance": "agentBalance",
    "agent_balance": "agentBalance",
    "agentPnL": "agentPnL",
    "agent_pnl": "agentPnL",
    "agent_pn_l": "agentPnL",
    "openPositions": "openPositions",
    "open_positions": "openPositions",
    "activeMarkets": "activeMarkets",
    "active_markets": "activeMarkets",
}
"""Names in the state that scores read, to the one name they are read by; a number in a text becomes a number."""

LATER = frozenset(
    {"correctness", "gameKnowledge", "game_knowledge"}
    | {"trueProbabilities", "actualOutcomes", "futureOutcomes", "marketOutcomes"}
    | {"true_probabilities", "actual_outcomes", "future_outcomes", "market_outcomes"}
)
"""What nobody knew at the time: it goes to ``outcome`` wherever in a step it stands, ``correctness`` name by name."""

LOGGED_STEP = re.compile(r"-(?:step|call)-(\d+)(?:-\d+)?$")
"""The step's number at the end of a step's or a call's id."""


@dataclass
class Steps:
    """A trajectory's turns in order, and its calls in the order of turns.

    ``silent`` are the numbers of turns without a call, ``left_out`` counts calls that lack a prompt or a response,
    and ``base_models`` is version to model of calls that name both.
    """

    turns: list[Turn] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    left_out: int = 0
    base_models: dict[str, str] = field(default_factory=dict)
    _by_id: dict[str, Call] = field(default_factory=dict)

    def add_calls(self, listed: Sequence[tuple[object, str]], turn: int) -> None:
        """Take the turn's calls, each with the id that goes with it unless it names one. Nothing is taken twice."""
        for raw, own_id in listed:
            call = call_of(raw, call_id=own_id, turn=turn)
            if call and self._taken(call) is False:
                call = call.model_copy(update={"call_id": own_id})
            if call is None or self._taken(call) is False:
                self.left_out += 1
            elif self._taken(call) is None:
                self.calls.append(call)
                self._by_id[call.call_id] = call
                self.base_models.update([pair] if (pair := model_beside(raw)) else [])

    def _taken(self, call: Call) -> bool | None:
        """None when its id is free, True when this very call has it, False when another has."""
        known = self._by_id.get(call.call_id)
        return None if known is None else (known.messages, known.response) == (call.messages, call.response)


def parse(text: str | None, trajectory_id: str, name: str = "stepsJson") -> Steps:
    """The steps in the JSON ``text`` of the field ``name``; none in a text that is empty, ``null`` or ``[]``.

    Raises:
        InvalidRow: it is no list of objects, or a reward is not a finite number.
    """
    if text is None or not text.strip():
        return Steps()
    listed, dirty = decode(text, name)
    if isinstance(listed, Mapping) and "steps" in listed:
        listed = listed["steps"]
    if listed is None:
        return Steps()
    if not isinstance(listed, list):
        raise invalid(name, Reason.NOT_A_LIST)
    if not all(isinstance(step, Mapping) for step in listed):
        raise invalid(name, Reason.NOT_AN_OBJECT)
    rewards = [_reward(step, f"{name}.{place}.reward") for place, step in enumerate(listed)]
    found = Steps()
    for turn, place in _numbered(listed):
        step = clean(listed[place]) if dirty else listed[place]
        found.turns.append(_turn(step, turn, rewards[place]))
        calls = _calls(step)
        found.add_calls([(raw, f"{trajectory_id}-call-{turn}-{i}") for i, raw in enumerate(calls)], turn)
        if not calls:
            found.silent.add(turn)
    return found


def add_logged(steps: Steps, rows: Sequence[Json], trajectory_id: str) -> None:
    """Take calls from ``rows`` of a log of calls, in order, for turns that have none; all where no turn is known.

    A row whose step cannot be told belongs to the turn of the row before it.
    """
    wanted, places, turn = set(steps.silent), dict[int, int](), 0
    for row in rows:
        turn = _logged_step(row, turn)
        if steps.turns and turn not in wanted:
            continue
        place = places[turn] = places.get(turn, -1) + 1
        steps.add_calls([(row, f"{trajectory_id}-call-{turn}-{place}")], turn)
    steps.calls.sort(key=lambda call: call.turn)
    steps.silent -= {call.turn for call in steps.calls}


def _logged_step(row: Json, before: int) -> int:
    for name in ("stepId", "callId"):
        match = LOGGED_STEP.search(str(row.get(name) or ""))
        if match and (step := whole(match[1])) is not None:
            return step
    return before


def _numbered(listed: Sequence[Json]) -> list[tuple[int, int]]:
    """(turn, place in the list) of each step, in order. One without a number stays behind the one before it."""
    kept: list[tuple[int, int]] = []
    places: dict[int, list[int]] = {}
    before, sure = -1, True
    for place, step in enumerate(listed):
        own = whole(first(step, "stepNumber", "step_number", "step", "index"))
        at = before if own is None else own
        known = places.setdefault(at, [])
        if own is not None and any(step == listed[earlier] for earlier in known):
            continue
        sure, before = sure and own is not None and not known, at
        known.append(place)
        kept.append((at, place))
    kept.sort()
    return kept if sure else [(turn, place) for turn, (_, place) in enumerate(kept)]


def _reward(step: Json, name: str) -> float:
    own = first(step, "reward", "immediateReward", "immediate_reward")
    action = step.get("action")
    if own is None and isinstance(action, Mapping):
        own = first(action, "reward", "immediateReward", "immediate_reward")
    return number(own, name) or 0.0


def _turn(step: Json, turn: int, reward: float) -> Turn:
    action, state = step.get("action"), _state(step)
    places = [step, action if isinstance(action, Mapping) else {}, state]
    later = {key: value for place in places for key, value in place.items() if key in LATER and value}
    right = later.pop("correctness", None)
    return Turn(
        turn=turn,
        at=_at(step),
        state={key: value for key, value in state.items() if key not in LATER},
        action=_action(step, action),
        reward=reward,
        outcome=later | (dict(right) if isinstance(right, Mapping) else {"correctness": right} if right else {}),
    )


def _at(step: Json) -> Any:
    try:
        return moment(first(step, "timestamp", "at", "time"), "timestamp")
    except InvalidRow:
        return None


def _state(step: Json) -> dict[str, Any]:
    """What the agent saw: the environment's state with the observation beside it, and who provided more."""
    state, seen = first(step, "environmentState", "environment_state", "state"), step.get("observation")
    found = (
        {STATE_NUMBERS.get(key, key): _state_value(key, value) for key, value in state.items()} if _is(state) else {}
    )
    if _is(seen) and seen:
        found = found | {"observation": seen} if found else dict(seen)
    providers = first(step, "providerAccesses", "provider_accesses")
    if isinstance(providers, list):
        names = [first(one, "providerName", "provider_name") for one in providers if _is(one)]
        found["providerAccesses"] = [str(name) for name in names if name]
    return found


def _is(value: object) -> bool:
    return isinstance(value, Mapping)


def _state_value(key: str, value: Any) -> Any:
    if key not in STATE_NUMBERS or not isinstance(value, str):
        return value
    try:
        return number(value, key)
    except InvalidRow:
        return None


def _action(step: Json, action: Any) -> Action | None:
    if isinstance(action, str):
        action = {"actionType": action}
    result = first(step, "executionResult", "execution_result")
    if not isinstance(action, Mapping) or not action:
        return None
    kind = first(action, "actionType", "action_type", "actionName", "action_name", "type", "name")
    parameters, error = first(action, "parameters", "params"), first(action, "error")
    result = first(action, "result") if result is None else result
    success = first(action, "success")
    if success is None and isinstance(result, Mapping):
        success = result.get("success")
    return Action(
        kind=str(kind) if kind else "unknown",
        parameters=dict(parameters) if isinstance(parameters, Mapping) else {},
        success=flag(success),
        result=result,
        error=None if error is None else str(error),
    )


def _calls(step: Json) -> list[Any]:
    """The step's calls as they stand in it; in the shape with one call a step that is the step itself."""
    listed = first(step, "llmCalls", "llm_calls", "llmCall", "llm_call", "calls")
    if isinstance(listed, Mapping):
        return [listed]
    if isinstance(listed, list):
        return listed
    return [step] if first(step, "prompt", "userPrompt", "user_prompt", "messages") is not None else []
