"""The form and the reasoning of what an agent said, as far as rules can see them: 0 to 1 each.

The published rules of Babylon's second generation look at words and lengths; they say nothing of truth.
"""

from __future__ import annotations

import json
import re
from typing import Any

from rl.observed import kind_of
from rl.records import Call, Trajectory

KNOWN = frozenset({"WAIT", "HOLD", "NONE", "PASS", "SKIP"})
"""Actions that neither trade nor talk, and are right to take."""
MARKET_TERMS = ("price", "market", "risk", "trend", "volume", "position", "probability", "liquidity")
CONCLUSIONS = ("therefore", "because", "i will", "so i ", "decide", "thus", "hence", "conclusion")
OWN_NAMES = frozenset({"actionType", "action_type", "action", "type", "reasoning", "thought", "explanation"})
DECODE = json.JSONDecoder().decode
FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def form_and_reasoning(trajectory: Trajectory) -> tuple[float, float]:
    """The means over the calls.

    Form is 0.4 for a JSON object with an action, 0.3 for an action of a known kind, 0.3 for parameters. Where no call
    is known, the same of the turns' actions; 0 where there is neither.

    Reasoning is 0.3 where nothing is reasoned; else 0.5, 0.2 more for over 100 characters, 0.15 for terms of markets,
    0.15 for a conclusion. 0.3 without calls.
    """
    if not trajectory.calls:
        actions = [turn.action for turn in trajectory.turns if turn.action is not None]
        return sum(_form(one.kind, one.parameters) for one in actions) / max(len(actions), 1), 0.3
    form = reasoning = 0.0
    for call in trajectory.calls:
        said = _object(call.response.content or "")
        form += _form(*_action_said(call, said))
        reasoning += _reasoning(_reasoned(call, said))
    return form / len(trajectory.calls), reasoning / len(trajectory.calls)


def _form(kind: object, parameters: object) -> float:
    if not isinstance(kind, str) or not kind:
        return 0.0
    known = kind_of(kind) != "other" or kind.upper() in KNOWN
    return 0.4 + 0.3 * known + 0.3 * bool(isinstance(parameters, dict) and parameters)


def _reasoning(text: str) -> float:
    if not text or text.isspace():
        return 0.3
    lower = text.lower()
    score = 0.7 if len(text) > 100 else 0.5
    for words in (MARKET_TERMS, CONCLUSIONS):
        for word in words:
            if word in lower:
                score += 0.15
                break
    return score


def _action_said(call: Call, said: dict[str, Any]) -> tuple[object, object]:
    """The action and its parameters of a call: of its first tool call, else of the JSON object it answered with."""
    if call.response.tool_calls:
        function = call.response.tool_calls[0].get("function")
        asked = function if isinstance(function, dict) else {}
        arguments = asked.get("arguments")
        return asked.get("name"), (_object(arguments) if isinstance(arguments, str) else arguments)
    kind = said.get("actionType") or said.get("action_type") or said.get("action") or said.get("type")
    if isinstance(kind, dict):
        said, kind = kind, kind.get("actionType") or kind.get("type")
    parameters = said.get("parameters") or said.get("params")
    return kind, parameters if parameters is not None else _others(said)


def _reasoned(call: Call, said: dict[str, Any]) -> str:
    """The call's reasoning: the model's own, else what its JSON answer or its prose says beside the action."""
    if call.response.reasoning_content:
        return call.response.reasoning_content
    if said:
        return str(said.get("reasoning") or said.get("thought") or said.get("explanation") or "")
    return call.response.content or ""


def _object(text: str) -> dict[str, Any]:
    """The JSON object that the text is, also in a code fence; empty where it is none."""
    if "{" not in text:
        return {}
    if "```" in text and (fenced := FENCE.search(text)):
        text = fenced[1]
    try:
        value = DECODE(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _others(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name not in OWN_NAMES}
