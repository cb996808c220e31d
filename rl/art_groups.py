"""A dataset file's rows as the trajectory groups of ART's service: nothing of them but what it trains on.

A trajectory becomes the messages that were sent and said, the tools that were offered, the tokens that were spoken with
their log-probabilities, and its score. Whose trajectory it is, what it is called, and what else is known of it stay
here. Rows that would teach nothing stay here too, and are counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Final

from pydantic import ValidationError

from rl.advantages import bounds, numbered, pooled
from rl.errors import InvalidInput, NoTrainingData, OffPolicyRefused
from rl.filtering import fresh, informative
from rl.objectives import Grouped
from rl.protocol import DatasetRow
from rl.records import Call, Message

STRIPPED: Final = ("ids of trajectories, calls and agents", "scenario names", "metadata", "logs", "prompt tokens")
"""What rows hold beside, as the version's manifest says that it was not sent."""
ENDS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
Row = tuple[DatasetRow, list[Call]]


@dataclass
class Chosen:
    """The ``groups`` that are sent, each of trajectories as ART dumps them. ``skipped`` counts rows by reason."""

    read: int
    groups: list[list[dict[str, Any]]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def manifest(self) -> dict[str, object]:
        """What was sent, and what was not and why."""
        used = sum(map(len, self.groups))
        return {"read": self.read, "used": used, "groups": len(self.groups), "skipped": dict(self.skipped)}


def choose(lines: Iterable[bytes], config: Grouped) -> Chosen:
    """The groups of a dataset file's ``lines`` for a config that ``rl.art.refusals`` has nothing against.

    Raises:
        InvalidInput: a line is no row, or its score is no finite number.
        OffPolicyRefused: a call without tokens and log-probabilities, or sampled at another temperature than 1.
        NoTrainingData: nothing is left to compare; says why.
    """
    rows = [_row(number, line) for number, line in enumerate(lines, start=1)]
    found = Chosen(len(rows))
    for row, calls in rows:
        _check(row, calls)
    rows = _left(found, rows, [bool(calls) for _, calls in rows], "it says nothing")
    recent = fresh([row.staleness for row, _ in rows], config.max_staleness).tolist()
    rows = _left(found, rows, recent, "spoken by a version older than max_staleness")
    names: list[Hashable] = _groups(rows, config)
    if config.filter is not None:
        kept = informative([row.score for row, _ in rows], names, config.filter.low, config.filter.high).tolist()
        rows, names = _left(found, rows, kept, "mean score of its group outside filter"), list(compress(names, kept))
    sizes = Counter(names)
    kept = [sizes[name] > 1 for name in names]
    rows, names = _left(found, rows, kept, "alone in its group"), list(compress(names, kept))
    member = numbered(names)
    least, greatest = bounds(_scores(rows), member)
    kept = (least < greatest)[member].tolist() if rows else []
    rows, names = _left(found, rows, kept, "all scores of its group are equal"), list(compress(names, kept))
    together: dict[Hashable, list[dict[str, Any]]] = {}
    for name, (row, calls) in zip(names, rows, strict=True):
        together.setdefault(name, []).append(_trajectory(row, calls))
    found.groups = list(together.values())
    if not found.groups:
        reasons = "; ".join(f"{count} {reason}" for reason, count in found.skipped.items())
        raise NoTrainingData(f"none of {found.read} rows can be compared with others: {reasons or 'there is none'}")
    return found


def _row(number: int, line: bytes) -> Row:
    try:
        row = DatasetRow.model_validate_json(line)
        calls = sorted((Call.model_validate(call) for call in row.calls), key=lambda call: call.turn)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInput("dataset", f"row {number}", f"{first['loc']}: {first['msg']}") from None
    return row, [call for call in calls if call.token_ids is None or call.token_ids]


def _check(row: DatasetRow, calls: Sequence[Call]) -> None:
    if not math.isfinite(row.score):
        raise InvalidInput("score", row.score, f"trajectory {row.trajectory_id}: it must be a finite number")
    for call in calls:
        spoken = call.logprobs or ()
        if not call.has_tokens or len(spoken) != len(call.token_ids or ()) or not all(map(math.isfinite, spoken)):
            what = "has no tokens and log-probabilities: ART would take it for what its newest version says"
        elif call.temperature is not None and abs(call.temperature - 1) > 1e-6:
            what = f"was sampled at temperature {call.temperature}; ART's service trains at 1 alone"
        else:
            continue
        raise OffPolicyRefused(f"trajectory {row.trajectory_id}, call {call.call_id} {what}")


def _left(found: Chosen, rows: list[Row], kept: Sequence[bool], reason: str) -> list[Row]:
    left_out = len(rows) - sum(kept)
    if left_out:
        found.skipped[reason] += left_out
    return list(compress(rows, kept))


def _groups(rows: Sequence[Row], config: Grouped) -> list[Hashable]:
    names = [row.group for row, _ in rows]
    return pooled(names) if config.lone == "pooled" else list(names)


def _scores(rows: Sequence[Row]) -> Any:
    import numpy as np

    return np.asarray([row.score for row, _ in rows], dtype=np.float64)


def _trajectory(row: DatasetRow, calls: Sequence[Call]) -> dict[str, Any]:
    first, *others = _histories(calls)
    return {**first, "additional_histories": others, "reward": row.score}


def _histories(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """The calls as conversations. One that continues the tokens and messages of an earlier one is not repeated."""
    histories: list[tuple[list[int], list[Message], dict[str, Any]]] = []
    for call in calls:
        prompt, place = call.prompt_token_ids or [], _continued(histories, call)
        if place is None:
            new, said = call.messages, dict[str, Any](messages_and_choices=[], tools=call.tools)
        else:
            _, before, said = histories.pop(place)
            new = call.messages[len(before) :]
        said["messages_and_choices"] += [*map(_message, new), _choice(call)]
        whole = [*call.messages, Message(role="assistant", content=call.response.content)]
        histories.append(([*prompt, *(call.token_ids or [])], whole, said))
    return [said for _, _, said in histories]


def _continued(histories: Sequence[tuple[list[int], list[Message], dict[str, Any]]], call: Call) -> int | None:
    prompt = call.prompt_token_ids or []
    for place in reversed(range(len(histories))):
        ids, before, said = histories[place]
        goes_on = len(ids) < len(prompt) and prompt[: len(ids)] == ids and said["tools"] == call.tools
        last = len(before) - 1
        if (
            goes_on
            and len(call.messages) > last
            and call.messages[:last] == before[:last]
            and call.messages[last].role == "assistant"
        ):
            return place
    return None


def _message(message: Message) -> dict[str, Any]:
    """As it was sent; a participant's name may say whose agent it is."""
    return message.model_dump(mode="json", exclude_none=True, exclude={"name"})


def _choice(call: Call) -> dict[str, Any]:
    """OpenAI's ``Choice``, with each token by its number."""
    said: Mapping[str, Any] = call.response.model_dump(mode="json", include={"content", "tool_calls"})
    content: list[dict[str, Any]] = [
        {"token": f"token_id:{token}", "logprob": logprob, "bytes": None, "top_logprobs": []}
        for token, logprob in zip(call.token_ids or (), call.logprobs or (), strict=True)
    ]
    return {
        "index": 0,
        "finish_reason": call.finish_reason if call.finish_reason in ENDS else "stop",
        "message": {"role": "assistant", **{name: value for name, value in said.items() if value is not None}},
        "logprobs": {"content": content, "refusal": None},
    }
