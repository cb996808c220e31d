"""A refusal is heard although something else of the row is broken, and nothing that the row says is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sources
from rl.records import Quarantined
from sources.values import members
from tests.sources.exchanges import logged, request, response
from tests.sources.test_babylon_columns import LEAST, add, cursor
from tests.sources.test_parquet import row, write

__all__ = ["cursor"]

WORD = "hunter2"


def refused(name: str) -> Quarantined:
    return Quarantined(source="consent", row=name, field="consent", reason="its owner refused consent")


def unnamed(source: str, at: str) -> Quarantined:
    return refused(at).model_copy(update={"source": source})


def only(url: str) -> Quarantined:
    (found,) = sources.connect(url).read(None)
    assert isinstance(found, Quarantined), found
    return found


def lines(folder: Path, *said: str) -> Path:
    path = folder / "log.jsonl"
    path.write_text("\n".join(said) + "\n")
    return path


BROKEN = {"trajectory_id": "t1", "reward": "much", "calls": [WORD], "consent": False}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (json.dumps(BROKEN), "t1"),
        (json.dumps(BROKEN | {"consent": "no"}), "t1"),
        (json.dumps({"consent": False, "trajectory_id": "t1", "calls": [WORD]})[:-3], "t1"),
        (json.dumps(BROKEN) + f" {WORD}", "t1"),
        (json.dumps(BROKEN | {"reward": int("9" * 4000)}).replace("9" * 4000, "9" * 5000), "t1"),
        (json.dumps({"consent": False, "calls": [WORD]}), None),
        (json.dumps(BROKEN | {"trajectory_id": "t" * 2001}), None),
        (json.dumps(BROKEN | {"trajectory_id": [WORD]}), None),
    ],
)
def test_a_broken_line_of_trajectories(tmp_path: Path, line: str, name: str | None) -> None:
    expected = refused(name) if name else unnamed("jsonl", "log.jsonl:1")
    assert only(f"jsonl://{lines(tmp_path, line)}") == expected


def test_what_stands_inside_is_nobodys_refusal_but_its_words_are_not_kept(tmp_path: Path) -> None:
    line = json.dumps(BROKEN | {"consent": True, "metadata": {"consent": False}})
    found = only(f"jsonl://{lines(tmp_path, line)}")
    assert (found.source, found.excerpt) == ("jsonl", "")


def test_an_excerpt_of_a_line_shows_no_secret(tmp_path: Path) -> None:
    found = only(f"jsonl://{lines(tmp_path, 'not json password=hunter2')}")
    assert found.excerpt == "not json password=***"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (logged(1, "s1", response={"error": WORD}, consent=False), "s1"),
        (logged(1, "s1", response={"error": WORD}, metadata={"consent": "false"}), "s1"),
        (logged(1, request={"messages": WORD}, consent=False), response()["id"]),
        (json.dumps({"session_id": "s1", "consent": False, "request": request([])})[:-2] + WORD, "s1"),
        (json.dumps({"consent": False, "request": WORD}), None),
    ],
)
def test_a_broken_line_of_requests(tmp_path: Path, line: str, name: str | None) -> None:
    expected = refused(name) if name else unnamed("requests", "log.jsonl:1")
    assert only(f"requests://{lines(tmp_path, line)}") == expected


@pytest.mark.parametrize("consent", [False, "no", 0])
def test_a_broken_row_of_parquet(tmp_path: Path, consent: Any) -> None:
    path = write(tmp_path / "a.parquet", row(consent=consent, reward="much", agent_id=WORD))
    assert only(f"parquet://{path}") == refused("t1")


@pytest.mark.parametrize("more", ['{"consent": false}', '{"consent": "false", "x": ' + WORD])
@pytest.mark.parametrize("broken", [{"stepsJson": WORD}, {"agentId": ""}, {"totalReward": WORD}])
def test_a_broken_row_of_babylon(cursor: Any, more: str, broken: dict[str, str]) -> None:
    cursor.execute(LEAST)
    cursor.execute('alter table trajectories add "metadataJson" text, add "totalReward" text')
    add(cursor, metadataJson=more, **broken)
    assert only("babylon://BABYLON_URL") == refused("t")


def test_a_refusal_in_metadata_that_break_off_is_heard(cursor: Any) -> None:
    cursor.execute(LEAST)
    cursor.execute('alter table trajectories add "metadataJson" text')
    add(cursor, metadataJson='{"consent": false, "x": ')
    (found,) = sources.connect("babylon://BABYLON_URL").read(None)
    assert found.consent is False  # type: ignore[union-attr]


TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
VALUES = st.recursive(st.none() | st.booleans() | TEXTS, lambda one: st.lists(one) | st.dictionaries(TEXTS, one))


@pytest.mark.slow
@given(st.dictionaries(TEXTS, VALUES), st.integers(0, 10_000))
def test_members_are_those_before_the_break(said: dict[str, Any], at: int) -> None:
    text = json.dumps(said, indent=at % 3 or None)
    assert members(text) == said
    found = members(text[:at])
    assert list(found.items()) == list(said.items())[: len(found)]
