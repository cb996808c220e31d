"""``docs/sources.md``: its example lines are read by the sources that they stand for, and it names every field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import sources
from rl.records import Action, Call, Message, Trajectory, Turn
from rl.windows import parse
from sources import exchange_fields

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
JSONL, REQUESTS = re.findall(r"^```json\n(.*)\n```$", PAGE, re.MULTILINE)
HOUR = parse("2026-11-21T10:00")
LISTS = (
    *("TRAJECTORY", "AGENT", "SCENARIO", "TURN", "REWARD", "ARCHETYPE"),
    *("CONSENT", "STARTED", "ENDED", "STATUS", "ERROR"),
)


def _section(name: str) -> str:
    return re.split(r"^## ", PAGE.partition(f"\n## {name}\n")[2], flags=re.MULTILINE)[0]


def _read(url: str) -> Trajectory:
    (one,) = sources.connect(url).read(HOUR)
    assert isinstance(one, Trajectory), one
    return one


@pytest.mark.parametrize(("kind", "line"), [("jsonl", JSONL), ("requests", REQUESTS)])
def test_an_example_line_is_read(kind: str, line: str, tmp_path: Path) -> None:
    log = tmp_path / "agent.jsonl"
    log.write_text(line + "\n")
    one = _read(f"{kind}://{log}")
    assert (one.trajectory_id, one.scenario_id, one.agent_id) == ("shop-2026-11-21-0001", "late-parcel", "shop-agent-7")
    assert (one.reward, one.calls[0].response.content) == (1.0, "I am sorry. What is its number?")


def test_the_example_of_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = [json.loads(JSONL)]
    code = re.findall(r"```python\n(.*)\n```", _section("parquet"))[0]
    code = code.replace('"agent.parquet"', repr(str(tmp_path / "agent.parquet")))
    eval(code, {"pyarrow": pyarrow, "rows": rows})  # noqa: S307 - a line of our own page
    one = _read(f"parquet://{tmp_path}/agent.parquet")
    assert one == _parsed(rows[0])


def _parsed(row: dict[str, Any]) -> Trajectory:
    return Trajectory.model_validate(row)


@pytest.mark.parametrize("kind", [Trajectory, Call, Message, Turn, Action])
def test_every_field_of_a_trajectory_is_named(kind: type[Trajectory | Call | Message | Turn | Action]) -> None:
    assert [name for name in kind.model_fields if f"`{name}`" not in _section("jsonl")] == []


@pytest.mark.parametrize("name", LISTS)
def test_every_name_of_a_fact_is_named(name: str) -> None:
    told = {exchange_fields.plain(one) for one in re.findall(r"`(\w+)`", _section("requests"))}
    assert set(getattr(exchange_fields, name)) - told == set()
