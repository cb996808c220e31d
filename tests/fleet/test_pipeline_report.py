"""What a pipeline shows: bars while it works, and the report at the end."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from db.job_views import Summary
from db.overview import Facts, Judged
from fleet.pipeline.bars import Bar, Bars, bars
from fleet.pipeline.rate import rate
from fleet.pipeline.report import closing_words, summary, table
from rl.config import digest
from rl.intervals import beta_interval
from rl.pipeline import Pipeline
from rl.power import flattery

CONFIG = Pipeline.model_validate(
    {
        "name": "crafts",
        "environment": "textcraft-small",
        "model": {"starter": {}},
        "demonstrations": {"scenarios": 100},
        "sft": {"epochs": 1, "optimizer": {"learning_rate": 1e-3}},
        "rl": {
            "rounds": 4,
            "rollout": {"scenarios": 4, "episodes": 2},
            "train": {"optimizer": {"learning_rate": 1e-4}},
        },
        "validation": {"count": 100},
        "held_out": {"count": 300},
    }
)
HELD_OUT = digest(CONFIG.held_out)
BASE = {"model": "starter", "k": 2, "n": 300, "low": 0.0037, "high": 0.0176}


def _facts(sft: int, rl: int, stable: str = "crafts-v1.0.3") -> Facts:
    return Facts(
        "crafts",
        windows={"2025-01-15T10:00": "trained", "run/crafts/0001": "trained", "run/crafts/0002": "trained"},
        judged=[
            Judged("crafts-v1.0.0", 0, "held_out", 1, 100, "of the line's own decision"),
            Judged("crafts-v1.0.0", 0, "held_out", sft, 300, HELD_OUT),
            Judged("crafts-v1.0.3", 3, "held_out", rl, 300, HELD_OUT),
        ],
        trajectories=180,
        stable=stable,
        run_state="finished",
        decision={
            "version": "crafts-v1.0.3",
            "reason": "better by more than 0.01",
            "evidence": {"selection": {"confirmed": {"crafts-v1.0.3": [rl, 300]}}},
        },
    )


def test_the_three_are_compared_by_their_intervals() -> None:
    found = summary(CONFIG, _facts(109, 260), BASE, {"sft": 40.0, "rl": 80.5})
    low, high = beta_interval(260, 300)
    assert found["results"]["rl"] == {
        "version": "crafts-v1.0.3",
        "k": 260,
        "n": 300,
        "low": round(low, 4),
        "high": round(high, 4),
        "tied": 1,
        "flattery": 0.0,
    }
    assert (found["gains"], found["done"], found["released"]) == ({"sft": True, "rl": True}, True, True)
    assert (found["rounds"], found["trajectories"], found["seconds"]) == (2, 180, {"sft": 40.0, "rl": 80.5})
    assert Pipeline.model_validate(found["config"]) == CONFIG
    said = StringIO()
    Console(file=said, width=120).print(table(found))
    assert "│ SFT (crafts-v1.0.0) │ 109/300 │ 36.3% │ 32.9% to 40.0% │" in said.getvalue()
    assert closing_words(found) == [
        "scenarios of textcraft-small",
        "better by more than 0.01",
        "180 trajectories, 2 rounds",
        "sft 40 s, rl 80 s; together 120 s",
    ]


@pytest.mark.parametrize(("rl", "gains"), [(118, False), (119, False), (131, True)])
def test_intervals_that_touch_are_no_gain(rl: int, gains: bool) -> None:
    assert summary(CONFIG, _facts(109, rl), BASE, {})["gains"]["rl"] is gains


@pytest.mark.parametrize(
    ("facts", "base"),
    [(None, BASE), (Facts("crafts", run_state="running"), BASE), (_facts(1, 2), None)],
)
def test_what_is_not_there_yet_is_not_done(facts: Facts | None, base: dict[str, Any] | None) -> None:
    assert summary(CONFIG, facts, base, {})["done"] is False


def test_the_best_of_several_that_tied_is_said_to_be_it() -> None:
    facts = _facts(109, 180)
    counts = {"crafts-v1.0.1": [150, 300], "crafts-v1.0.2": [150, 300], "crafts-v1.0.3": [180, 300]}
    facts.decision = dict(facts.decision or {}, evidence={"selection": {"confirmed": counts}})
    found = summary(CONFIG, facts, BASE, {})
    expected = flattery(300, 480 / 900, 3)
    assert (found["results"]["rl"]["tied"], found["results"]["rl"]["flattery"]) == (3, round(expected, 4))
    words = (
        f"RL is the best of 3 that tied on validation scenarios, and seems up to {expected * 100:.1f} points too good"
    )
    assert f"{words}, on average" in closing_words(found)


def test_rounds_are_those_of_its_own_run() -> None:
    facts = _facts(109, 260)
    facts.windows["run/another/0001"] = "trained"
    facts.rewards = {"run/crafts/0001": 0.25, "run/another/0001": 0.75}
    assert summary(CONFIG, facts, BASE, {})["rounds"] == 2
    assert [bar.note for bar in bars(facts, "rounds of RL", 4)] == ["solved 25%"]


def test_a_run_that_goes_on_has_decided_nothing() -> None:
    facts = _facts(109, 260)
    facts.run_state = "running"
    found = summary(CONFIG, facts, BASE, {})
    assert (found["decision"], found["results"]["rl"], found["done"]) == (None, None, False)


def test_a_run_that_changed_nothing_released_nothing() -> None:
    facts = _facts(109, 260, stable="crafts-v1.0.0")
    facts.decision = {"version": "crafts-v1.0.0", "reason": "no improvement"}
    found = summary(CONFIG, facts, BASE, {})
    assert (found["done"], found["released"], found["gains"]["rl"]) == (True, False, False)


def _job(kind: str, **progress: Any) -> Summary:
    fields: dict[str, Any] = dict.fromkeys(Summary.__dataclass_fields__)
    fields |= {"kind": kind, "progress": progress}
    return Summary(**fields)


def test_bars_are_of_rounds_and_of_running_jobs() -> None:
    facts = _facts(1, 2)
    facts.windows["run/crafts/0003"] = "scored"
    facts.rewards = {"2025-01-15T10:00": 1.0, "run/crafts/0001": 0.25, "run/crafts/0002": 0.5, "run/crafts/0003": 0.75}
    facts.judged.append(Judged("crafts-v1.0.1", 1, "validation", 60, 100, ""))
    facts.judged.append(Judged("crafts-v1.0.2", 2, "validation", 0, 0, "without a verdict"))
    facts.active = [_job("train", step=3, total=8, metrics={"loss": 0.51234}), _job("score")]
    assert bars(facts, "rounds of RL", 4) == [
        Bar("rounds of RL", 2, 4, "rounds", "solved 75%, best crafts-v1.0.1 60/100"),
        Bar("train", 3, 8, "steps", "loss 0.512"),
    ]
    assert bars(Facts("crafts"), "SFT", 4) == []
    playing = Facts("crafts", active=[_job("collect", window="run/crafts/0001", done=7, total=32)])
    assert bars(playing, "rounds of RL", 4) == [Bar("collect run/crafts/0001", 7, 32, "episodes")]
    playing.active.append(_job("collect", window="run/crafts/0001", done=30, total=32))
    assert bars(playing, "rounds of RL", 4) == [Bar("collect run/crafts/0001", 37, 64, "episodes")]


def test_without_a_terminal_words_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("fleet.pipeline.bars.time.monotonic", lambda: now[0])
    said = StringIO()
    with Bars(Console(file=said, width=200), 4) as shown:
        shown.begin("demonstrations")
        for now[0], done in ((10.0, 20), (15.0, 60), (30.0, 120)):
            shown.count(done, 200)
        shown.end("demonstrations", 40.0)
    assert said.getvalue().splitlines() == [
        "  demonstrations ...",
        "  demonstrations 20/200",
        "  demonstrations 120/200, 5.0 episodes/s, about 16 s left",
        "✓ demonstrations 40 s",
    ]


def test_on_a_terminal_bars_come_and_go() -> None:
    said = StringIO()
    with Bars(Console(file=said, width=120, force_terminal=True), 4) as shown:
        shown.begin("rounds of RL")
        facts = _facts(1, 2)
        facts.rewards = {"run/crafts/0001": 0.25}
        shown.show(facts)
        shown.show(Facts("crafts"))
        shown.end("rounds of RL", 3.0)
    assert "rounds of RL" in said.getvalue()
    assert "1/4" in said.getvalue()


def test_on_a_terminal_something_moves_from_the_beginning() -> None:
    said = StringIO()
    with Bars(Console(file=said, width=60, force_terminal=True), 4) as shown:
        shown.begin("an engine that answers")
        begun = said.getvalue()
        shown.count(7, 300)
        counted = said.getvalue()[len(begun) :]
    assert "an engine that answers" in begun
    assert "None" not in begun
    assert "7/300" in counted
    assert "\n" not in counted.rstrip("\n\r\x1b[2K")


def test_a_stage_of_an_earlier_start_is_said() -> None:
    said = StringIO()
    Bars(Console(file=said, width=60), 4).kept("rounds of RL")
    assert said.getvalue() == "✓ rounds of RL done before\n"


@pytest.mark.parametrize(
    ("per_second", "words"), [(None, ""), (0.0, ""), (8.25, "8.2 rounds/s"), (0.05, "3.0 rounds/min")]
)
def test_a_rate_in_words(per_second: float | None, words: str) -> None:
    assert rate(per_second, "rounds") == words
