from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import sources
from rl.errors import InvalidInput, InvalidRow
from rl.records import Quarantined, Trajectory
from rl.windows import parse as window
from sources import jsonl

HOUR = window("2025-01-15T10:00")


def row(trajectory_id: str = "t1", **fields: Any) -> dict[str, Any]:
    call = {
        "call_id": f"{trajectory_id}-0",
        "turn": 0,
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "You see: red ball 3 ahead"}],
        "response": {"role": "assistant", "content": "go to red ball"},
    }
    return {
        "trajectory_id": trajectory_id,
        "scenario_id": "babyai/train/1",
        "agent_id": "a1",
        "started_at": "2025-01-15T10:05:00Z",
        "ended_at": "2025-01-15T10:06:00Z",
        "reward": 1.0,
        "calls": [call],
    } | fields


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in row().items() if key != name}


def silent(**response: Any) -> dict[str, Any]:
    one = row()
    one["calls"][0]["response"] = {"role": "assistant", **response}
    return one


def spoken(**fields: Any) -> dict[str, Any]:
    one = row()
    one["calls"][0] |= fields
    return one


TOKENS = "give prompt_token_ids, token_ids and as many logprobs, or none"
BAD: Mapping[str, tuple[str, str]] = {
    json.dumps(silent(content="")): ("calls", "no assistant turn; a trajectory needs at least one"),
    json.dumps(silent(tool_calls=[])): ("calls", "no assistant turn; a trajectory needs at least one"),
    json.dumps(row(calls=[])): ("calls", "no assistant turn; a trajectory needs at least one"),
    json.dumps(row(reward=float("nan"))): ("reward", "Value error, must be a finite number"),
    json.dumps(row(reward=float("inf"))): ("reward", "Value error, must be a finite number"),
    '{"trajectory_id": "t1", ': ("line", "not JSON: Expecting property name enclosed in double quotes"),
    "not json": ("line", "not JSON: Expecting value"),
    "[]": ("line", "Input should be a valid dictionary or instance of Trajectory"),
    "\0" * 40: ("line", "not JSON: Expecting value"),
    "[" * 100_000: ("line", "not JSON: nested too deeply"),
    "[" * 800 + "]" * 800: ("line", "not JSON: nested too deeply"),
    '{"reward": ' + "9" * 5000 + "}": ("line", "not JSON: a number has too many digits"),
    json.dumps(without("scenario_id")): ("scenario_id", "Field required"),
    json.dumps(row(ended_at="2025-01-15T10:06:00")): ("ended_at", "Input should have timezone info"),
    json.dumps(row(rewrad=1)): ("rewrad", "Extra inputs are not permitted"),
    json.dumps(spoken(turn=-1)): ("calls.0.turn", "Input should be greater than or equal to 0"),
    json.dumps(row(ended_at="0001-01-01T00:30:00+10:00")): ("ended_at", "outside of the years that UTC can say"),
    json.dumps(row(started_at="9999-12-31T23:30:00-01:00")): ("started_at", "outside of the years that UTC can say"),
    json.dumps(spoken(turn=2**31)): ("calls.0.turn", "Input should be less than 2147483648"),
    json.dumps(spoken(token_ids=[1])): ("calls.0.logprobs", TOKENS),
    json.dumps(spoken(prompt_token_ids=[1], token_ids=[1, 2], logprobs=[-0.5])): ("calls.0.logprobs", TOKENS),
}


def source(folder: Path, *lines: str) -> sources.Source:
    path = folder / "agent logs.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return sources.connect(f"jsonl://{path}".replace(" ", "%20"))


def ids(rows: Iterator[Trajectory | Quarantined]) -> list[str]:
    return [one.trajectory_id if isinstance(one, Trajectory) else f"{one.row} {one.field}" for one in rows]


def test_the_rows_of_the_hour_they_ended_in_are_read(tmp_path: Path) -> None:
    lines = [
        row("before", ended_at="2025-01-15T09:59:59Z"),
        row("first", ended_at="2025-01-15T10:00:00Z"),
        row("abroad", ended_at="2025-01-15T19:30:00+09:00"),
        row("last", ended_at="2025-01-15T10:59:59.999Z"),
        row("after", ended_at="2025-01-15T11:00:00Z"),
    ]
    logs = source(tmp_path, *map(json.dumps, lines))
    assert ids(logs.read(HOUR)) == ["first", "abroad", "last"]
    assert [logs.holds(window(f"2025-01-15T{hour}:00")) for hour in ("08", "09", "10", "11", "12")] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_usable_rows_are_counted_by_the_hour_they_ended_in(tmp_path: Path) -> None:
    ends = ["2025-01-15T11:00:00Z", "2025-01-15T10:00:00Z", "2025-01-15T19:30:00+09:00", "9999-12-31T23:30:00Z"]
    logs = source(tmp_path, "not json", *(json.dumps(row(f"t{i}", ended_at=end)) for i, end in enumerate(ends)))
    ten, eleven, last = "2025-01-15T10:00", "2025-01-15T11:00", "9999-12-31T23:00"
    assert list(logs.hours().items()) == [(ten, 2), (eleven, 1), (last, 1)]
    middle = datetime(2025, 1, 15, 10, 59, tzinfo=UTC)
    assert logs.hours(since=middle) == {ten: 2, eleven: 1, last: 1}
    assert logs.hours(until=middle) == {ten: 2}
    assert logs.hours(since=datetime(2025, 1, 15, 11, tzinfo=UTC), until=datetime(2025, 1, 16, tzinfo=UTC)) == {
        eleven: 1
    }


def test_a_good_row_comes_as_it_was_written(tmp_path: Path) -> None:
    (found,) = source(tmp_path, json.dumps(row(metadata={"x": [1]}))).read(HOUR)
    assert isinstance(found, Trajectory)
    assert (found.trajectory_id, found.reward, found.metadata) == ("t1", 1.0, {"x": [1]})
    assert found.calls[0].response.content == "go to red ball"
    assert not found.calls[0].has_tokens


def test_a_tool_call_is_an_assistant_turn(tmp_path: Path) -> None:
    line = json.dumps(silent(tool_calls=[{"id": "1", "type": "function"}]))
    assert ids(source(tmp_path, line).read(HOUR)) == ["t1"]


@pytest.mark.parametrize("line", BAD, ids=lambda line: f"{BAD[line][0]}: {BAD[line][1]}")
def test_a_bad_row_is_quarantined_with_the_field_and_the_reason(tmp_path: Path, line: str) -> None:
    first, bad, last = source(tmp_path, json.dumps(row("good")), line, json.dumps(row("good too"))).read(HOUR)
    assert isinstance(first, Trajectory)
    assert isinstance(last, Trajectory)
    assert isinstance(bad, Quarantined)
    assert (bad.field, bad.reason) == BAD[line]
    assert (bad.source, bad.row) == ("jsonl", "agent logs.jsonl:2")
    assert bad.excerpt == line[:200].replace("\0", "\ufffd")


def test_a_character_that_cannot_be_stored_is_replaced(tmp_path: Path) -> None:
    one = row(scenario_id="a\0b", agent_id="a\ud83db", metadata={"no\0te": ["a\0b", 1, None]})
    (found,) = source(tmp_path, json.dumps(one)).read(HOUR)
    assert isinstance(found, Trajectory)
    assert (found.scenario_id, found.agent_id) == ("a\ufffdb", "a?b")
    assert found.metadata == {"no\ufffdte": ["a\ufffdb", 1, None]}


def test_a_bad_row_raises_by_itself() -> None:
    with pytest.raises(InvalidRow, match="reward = '<see excerpt>': Value error, must be a finite number"):
        jsonl.parse(json.dumps(row(reward=float("nan"))))


def test_empty_lines_and_bytes_that_are_no_text_do_not_stop_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps(row("good")).encode()
    path.write_bytes(b"\n  \n\xff\xfe{\n" + good + b"\n" + good.replace(b"good", b"caf\xc3\xa9"))
    assert ids(jsonl.JsonLines(path).read(HOUR)) == ["a.jsonl:3 line", "good", "café"]


def test_a_bad_row_alone_does_not_make_a_window(tmp_path: Path) -> None:
    assert not source(tmp_path, "not json").holds(HOUR)


def test_a_row_that_is_still_being_written_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row("good")) + "\n" + json.dumps(row("half"))[:60])
    assert ids(jsonl.JsonLines(path).read(HOUR)) == ["good", "a.jsonl:2 line"]


@pytest.mark.parametrize("url", ["postgres://host/db", "", "/srv/logs.jsonl", "s3://bucket/x", "JSONLX:///x"])
def test_an_unknown_kind_of_source_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"line.source = .*: unknown kind of source; known: .*jsonl://"):
        sources.connect(url)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InvalidInput, match="no such file; give an absolute path after jsonl://"):
            sources.connect(f"jsonl://{path}")
