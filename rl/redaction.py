"""What must not be kept of what agents say: found in every text of a trajectory, and replaced by ``[name]``.

Redacting is deterministic, and redacting again changes nothing. It looks at all texts, at the keys and values of JSON,
at whole numbers that are the digits of something, and into the arguments of tool calls, which are JSON in a string.
It leaves alone what groups and orders rows: the ids of trajectories, scenarios, agents, calls and tool calls, and also
the names of models, roles and reasons for ending. What may not be stored does not belong there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rl.errors import InvalidInput
from rl.records import Action, Call, Message, Trajectory, Turn
from rl.redaction_rules import BUILT_IN, Rule, own
from rl.training import Config

Kind = Literal["aws_key", "api_key", "token", "email", "iban", "card", "phone", "ipv4"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
MOST_PATTERNS = 50
AGAIN = "again"
"""A name that is kept from patterns."""
LEAST_WHOLE = 1e11
"""A smaller number that is written with a decimal point is a quantity, not the digits of something."""

Patterns = tuple[tuple[str, str], ...]


class Redaction(Config):
    """What is taken out of a line's texts before they are stored, and before a judge sees them.

    ``kinds`` are built in: e-mail addresses, phone numbers, card numbers (with their check digit), IBANs, bearer tokens
    and JWTs, API keys, AWS keys and IPv4 addresses. ``patterns`` are regular expressions of one's own by name, looked
    for after the kinds in the order of their names. ``hook`` is ``package.module:function``: called with what is to be
    stored after the rules were applied, it gives it back changed, or None to have nothing of it stored.
    """

    kinds: tuple[Kind, ...] = ()
    patterns: dict[Name, str] = Field(default_factory=dict, max_length=MOST_PATTERNS)
    hook: str | None = Field(None, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")

    @model_validator(mode="after")
    def _patterns_can_be_used(self) -> Self:
        for name, pattern in self.patterns.items():
            try:
                own(name, pattern)
            except InvalidInput as error:
                raise ValueError(str(error)) from None
            if name in BUILT_IN or name == AGAIN:
                remedy = "has a meaning of its own; choose another name"
                raise ValueError(str(InvalidInput("redaction.patterns", name, remedy)))
        return self

    @property
    def is_set(self) -> bool:
        """Whether anything is taken out at all."""
        return bool(self.kinds or self.patterns or self.hook)


def redact(trajectory: Trajectory, redaction: Redaction) -> tuple[Trajectory, Counter[str]]:
    """The trajectory without what the rules find, and how often each was found. The hook is not called.

    A call whose words changed loses its token ids and log-probabilities, which spell them.
    """
    found: Counter[str] = Counter()
    texts = _Texts(redaction, found)
    changed = trajectory.model_copy(
        update={
            "calls": [texts.call(one) for one in trajectory.calls],
            "turns": [texts.turn(one) for one in trajectory.turns],
            "archetype": texts.text(trajectory.archetype),
            "metadata": texts.value(trajectory.metadata),
        }
    )
    return changed, found


def redact_text(text: str, redaction: Redaction) -> str:
    """The text without what the rules find."""
    return _Texts(redaction, Counter()).replaced(text)


def without_tokens(before: Call, after: Call) -> Call:
    """``after``, without token ids and log-probabilities where its words are not those of ``before``."""
    if (before.messages, before.response, before.tools) == (after.messages, after.response, after.tools):
        return after
    return after.model_copy(update={"prompt_token_ids": None, "token_ids": None, "logprobs": None})


def ids(trajectory: Trajectory) -> tuple[object, ...]:
    """What a hook may not change: ids, turns, and which model spoke."""
    named = (trajectory.trajectory_id, trajectory.scenario_id, trajectory.agent_id)
    calls = tuple((call.call_id, call.turn, call.model) for call in trajectory.calls)
    return (*named, calls, tuple(turn.turn for turn in trajectory.turns))


@lru_cache(maxsize=256)
def _rules(kinds: tuple[Kind, ...], patterns: Patterns) -> tuple[tuple[Rule, ...], re.Pattern[str]]:
    """The rules in order, and what finds their replacements, which no rule may touch again."""
    rules = [rule for name, rule in BUILT_IN.items() if name in kinds]
    rules += [own(name, pattern) for name, pattern in patterns]
    names = "|".join([AGAIN, *(rule.name for rule in rules)])
    return tuple(rules), re.compile(rf"(\[(?:{names})\])")


class _Texts:
    """Applies the rules of one redaction, and counts in ``found``."""

    def __init__(self, redaction: Redaction, found: Counter[str]) -> None:
        self._rules, self._placed = _rules(redaction.kinds, tuple(sorted(redaction.patterns.items())))
        self._found = found

    def call(self, call: Call) -> Call:
        changes = {
            "messages": [self.message(one) for one in call.messages],
            "response": self.message(call.response),
            "tools": self.value(call.tools),
        }
        return without_tokens(call, call.model_copy(update=changes))

    def message(self, message: Message) -> Message:
        tool_calls = message.tool_calls
        changes = {
            "content": self.text(message.content),
            "reasoning_content": self.text(message.reasoning_content),
            "name": self.text(message.name),
            "tool_calls": None if tool_calls is None else [self._tool_call(one) for one in tool_calls],
        }
        return message.model_copy(update=changes)

    def turn(self, turn: Turn) -> Turn:
        changes = {"state": self.value(turn.state), "outcome": self.value(turn.outcome)}
        return turn.model_copy(update=changes | {"action": turn.action and self.action(turn.action)})

    def action(self, action: Action) -> Action:
        changes = {"kind": self.replaced(action.kind), "error": self.text(action.error)}
        changes |= {"parameters": self.value(action.parameters), "result": self.value(action.result)}
        return action.model_copy(update=changes)

    def text(self, text: str | None) -> str | None:
        return None if text is None else self.replaced(text)

    def replaced(self, text: str) -> str:
        """Replaces until nothing is found any more; each round leaves fewer characters that can be found."""
        while (after := self._once(text)) != text:
            text = after
        return text

    def _once(self, text: str) -> str:
        for rule in self._rules:
            parts = self._placed.split(text)  # every second one is a replacement
            text = "".join(part if index % 2 else self._without(rule, part) for index, part in enumerate(parts))
        return text

    def _without(self, rule: Rule, text: str) -> str:
        kept, place = [], 0
        for begin, end in rule.spans(text):
            kept += [text[place:begin], f"[{rule.name}]"]
            self._found[rule.name] += 1
            place = end
        return "".join([*kept, text[place:]])

    def value(self, value: Any) -> Any:
        """A JSON value, deeply. A key that becomes equal to another is told apart by ``[again]``."""
        if isinstance(value, str):
            return self.replaced(value)
        if isinstance(value, dict):
            return self._object(value, lambda _, one: self.value(one))
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return self._number(value)

    def _number(self, value: float) -> Any:
        if isinstance(value, float) and not (value.is_integer() and abs(value) >= LEAST_WHOLE):
            return value
        digits = str(int(value))
        after = self.replaced(digits)
        return value if after == digits else after

    def _object(self, value: dict[Any, Any], change: Callable[[str, Any], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, one in value.items():
            name = self.replaced(str(key))
            while name in found:
                name += f"[{AGAIN}]"
            found[name] = change(name, one)
        return found

    def _tool_call(self, call: dict[str, Any]) -> dict[str, Any]:
        def change(name: str, value: Any) -> Any:
            if name == "id":
                return value
            if name == "function" and isinstance(value, dict):
                return self._object(
                    value, lambda key, one: self._arguments(one) if key == "arguments" else self.value(one)
                )
            return self.value(value)

        return self._object(call, change)

    def _arguments(self, arguments: Any) -> Any:
        """JSON in a string stays JSON, where nothing is found that spans several of its values."""
        if not isinstance(arguments, str):
            return self.value(arguments)
        while (after := self.replaced(self._parsed(arguments))) != arguments:
            arguments = after
        return arguments

    def _parsed(self, arguments: str) -> str:
        try:
            value = json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments
        after = self.value(value)
        return arguments if after == value else json.dumps(after, ensure_ascii=False)
