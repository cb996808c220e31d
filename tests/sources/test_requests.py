"""Logs of chat completions as trajectories: lone calls, sessions, and lines that cannot be used."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rl.errors import InvalidInput, InvalidRow
from rl.records import Quarantined, Trajectory
from rl.windows import parse as window
from sources import sessions
from sources.exchanges import parse
from sources.requests import connect
from tests.sources.exchanges import ANSWER, ASKED, AT, logged, request, response, spoilt

NOON = window("2025-01-15T10:00")


def log(folder: Path, *lines: str) -> list[Trajectory | Quarantined]:
    path = folder / "calls.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return list(connect(f"requests://{path}").read(None))


def good(rows: Iterable[Trajectory | Quarantined]) -> list[Trajectory]:
    return [row for row in rows if isinstance(row, Trajectory)]


PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
BAD = {
    "half": ('{"request": ', "line", "not JSON"),
    "list": ("[1]", "line", "not an object"),
    "429": (
        spoilt(response={"status": 429, "body": {"error": "slow"}}),
        "response.status",
        "the call failed with status 429",
    ),
    "500": (spoilt(response_status="500"), "response.status", "the call failed with status 500"),
    "failure": (spoilt(status="failure"), "response.error", "the call failed"),
    "error": (spoilt(response={"error": {"message": "no"}}), "response.error", "the call failed"),
    "no request": (json.dumps({"timestamp": 1736935500, "response": response()}), "request.messages", "missing"),
    "embeddings": (spoilt(request={"input": "text", "model": "e"}), "request.messages", "missing"),
    "no response": (json.dumps({"timestamp": 1736935500, "request": request()}), "response.choices", "missing"),
    "no choice": (spoilt(response={"choices": []}), "response.choices", "missing"),
    "no time": (json.dumps({"request": request(), "response": response(created=None)}), "timestamp", "missing"),
    "bad time": (spoilt(timestamp="yesterday"), "timestamp", "not a moment"),
    "picture": (spoilt(request=request(PICTURE)), "call", "no usable call"),
    "silence": (spoilt(response=response({"role": "assistant", "content": ""})), "call", "no usable call"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_call_that_cannot_be_used_is_quarantined_with_the_reason(tmp_path: Path, name: str) -> None:
    line, field, reason = BAD[name]
    with pytest.raises(InvalidRow):
        parse(line)
    first, bad, last = log(tmp_path, logged(1), line, logged(2))
    assert isinstance(bad, Quarantined)
    assert (bad.source, bad.row, bad.field, bad.reason) == ("requests", "calls.jsonl:2", field, reason)
    assert [isinstance(one, Trajectory) for one in (first, last)] == [True, True]


def test_no_excerpt_holds_a_key(tmp_path: Path) -> None:
    line = json.dumps({"headers": {"Authorization": "Bearer sk-verysecretverysecret"}, "status": 500})
    (bad,) = log(tmp_path, line)
    assert isinstance(bad, Quarantined)
    assert "verysecret" not in bad.excerpt


def test_a_lone_call_is_a_trajectory_of_its_own(tmp_path: Path) -> None:
    (found,) = good(log(tmp_path, logged(1)))
    assert found.trajectory_id == "chatcmpl-00000000000000000001"
    assert (found.agent_id, found.started_at, found.ended_at) == ("unknown", AT, AT)
    assert (found.reward, found.metadata["reward"], found.consent) == (0.0, None, None)
    assert found.metadata["usage"] == {"prompt_tokens": 20, "completion_tokens": 1}


def test_calls_of_one_session_are_one_trajectory_in_the_order_of_time(tmp_path: Path) -> None:
    more = [*ASKED, ANSWER, {"role": "user", "content": "And 3 + 3?"}]
    lines = [
        logged(2, "s1", "2025-01-15T11:00:01Z", request=request(more), response=response(number=2), user="u1"),
        logged(9),
        logged(1, "s1", "2025-01-15T10:59:00Z", score=0.25),
        logged(3, "s2", metadata={"scenario": "sums", "reward": "1", "agent_id": "a", "consent": "true"}),
        logged(1, "s1", "2025-01-15T10:59:00Z", score=0.25),
    ]
    lone, first, second = good(log(tmp_path, *lines))
    assert len(lone.calls) == 1
    assert [(call.turn, len(call.messages)) for call in first.calls] == [(0, 2), (1, 4)]
    assert (first.trajectory_id, first.agent_id, first.reward) == ("s1", "u1", 0.25)
    assert first.ended_at == datetime(2025, 1, 15, 11, 0, 1, tzinfo=UTC)
    assert (second.scenario_id, second.agent_id, second.reward, second.consent) == ("sums", "a", 1.0, True)
    assert {"reward", "scenario_id"} & set(second.metadata) == set()


def test_turns_that_are_named_order_a_session(tmp_path: Path) -> None:
    lines = [logged(1, "s", metadata={"turn": 7}), logged(2, "s", metadata={"turn": "3"})]
    (found,) = good(log(tmp_path, *lines))
    assert [(call.turn, call.call_id[-1]) for call in found.calls] == [(3, "2"), (7, "1")]


def test_a_session_belongs_to_the_hour_it_ended_in(tmp_path: Path) -> None:
    lines = [logged(1, "s", "2025-01-15T10:59:00Z"), logged(2, "s", "2025-01-15T11:01:00Z"), logged(3)]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(lines))
    source = connect(f"requests://{path}")
    assert [one.trajectory_id[-1] for one in good(source.read(NOON))] == ["3"]
    assert [one.trajectory_id for one in good(source.read(window("2025-01-15T11:00")))] == ["s"]
    assert source.hours() == {"2025-01-15T10:00": 1, "2025-01-15T11:00": 1}
    assert source.hours(since=datetime(2025, 1, 15, 11, tzinfo=UTC)) == {"2025-01-15T11:00": 1}
    assert source.hours(until=datetime(2025, 1, 15, 11, tzinfo=UTC)) == {"2025-01-15T10:00": 1}
    assert [source.holds(window(f"2025-01-15T{hour}:00")) for hour in ("09", "10", "11")] == [False, True, True]


def test_without_a_scenario_the_same_words_are_one(tmp_path: Path) -> None:
    other = request([{"role": "user", "content": "3 + 3?"}])
    first, second, third = good(log(tmp_path, logged(1), logged(2), logged(3, request=other)))
    assert first.scenario_id == second.scenario_id != third.scenario_id
    assert first.metadata["scenario_id"] is None


def test_a_session_that_never_ends_is_no_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_CALLS", 2)
    monkeypatch.setattr("sources.requests.MOST_CALLS", 2)
    kept, bad = log(tmp_path, *[logged(n, "ok") for n in (1, 2)], *[logged(n, "ever") for n in (3, 4, 5)])
    assert isinstance(kept, Trajectory)
    assert isinstance(bad, Quarantined)
    assert (bad.row, bad.field, bad.reason, bad.excerpt) == ("calls.jsonl:3", "session", "too large", "ever")


def test_gzip_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join([logged(1), logged(2, "s")]).encode()))
    assert len(good(connect(f"requests://{path}").read(None))) == 2


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file; give an absolute path after requests://"):
        connect(f"requests://{tmp_path / 'none.jsonl'}")
