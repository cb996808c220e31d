from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.held_out import HeldOut, is_held_out
from rl.readiness import UNGROUPED
from rl.usable import Rule, Usable, is_round, usable

HOUR, NEXT, ROUND = "2025-01-15T10:00", "2025-01-15T11:00", "run/demo/0001"


@dataclass(frozen=True)
class Row:
    trajectory_id: str
    score: float | None
    scenario_id: str = "s"
    window: str = HOUR
    apart: str = ""
    is_refused: bool = False

    @property
    def comparison(self) -> str:
        return self.scenario_id + self.apart


def reasons(rows: list[Row], rule: Rule, learned: dict[str, str] | None = None) -> dict[str, str]:
    return {one.row.trajectory_id: one.reason for one in usable(rows, rule, learned or {}).left_out}


def groups(found: Usable[Row]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = defaultdict(list)
    for one in found.kept:
        members[one.group].append(one.row.trajectory_id)
    return dict(members)


GRPO, SFT = Rule("grpo"), Rule("sft")
PAIR = [Row("a", 0.25), Row("b", 0.75)]


def test_a_group_that_differs_is_kept_under_its_windows_and_scenarios_name() -> None:
    found = usable([*PAIR, Row("c", 1.0, window=NEXT), Row("d", 0.0, window=NEXT)], GRPO, {})
    assert groups(found) == {f"{HOUR} s": ["a", "b"], f"{NEXT} s": ["c", "d"]}
    assert found.left_out == []


def test_without_a_score_below_min_score_and_learned_from() -> None:
    rows = [Row("none", None), Row("low", 0.49), Row("old", 0.9), Row("both", 0.1), Row("kept", 0.5)]
    found = reasons(rows, Rule("sft", min_score=0.5), {"old": "main-v1.0.2", "both": "main-v1.0.2", "none": "v"})
    assert found == {
        "none": "not scored",
        "low": "below min_score",
        "old": "already learned from by main-v1.0.2",
        "both": "below min_score",
    }


@pytest.mark.parametrize(("objective", "kept"), [("grpo", False), ("dpo", False), ("rloo", False), ("sft", True)])
def test_a_group_without_variance_teaches_only_what_does_not_compare(objective: str, kept: bool) -> None:
    rows = [*PAIR, *(Row(f"t{n}", 0.5, "t") for n in range(3))]
    why = {} if kept else {f"t{n}": "its group has no variance: all 3 scores are 0.5" for n in range(3)}
    assert reasons(rows, Rule(objective)) == why


@pytest.mark.parametrize(
    ("objective", "lone", "pools", "reason"),
    [
        ("grpo", "score_alone", False, "alone in its group"),
        ("dpo", "score_alone", False, "alone in its group"),
        ("grpo", "score_alone", True, None),
        ("grpo", "skip", True, "alone in its group"),
        ("sft", "score_alone", False, None),
        ("weighted_sft", "score_alone", False, None),
        ("ppo", "score_alone", False, None),
        ("sft", "skip", False, "alone in its group"),
        ("grpo", "batch_baseline", False, "alone in its group"),
        ("weighted_sft", "batch_baseline", False, None),
    ],
)
def test_the_rule_for_one_that_is_alone(objective: str, lone: Any, pools: bool, reason: str | None) -> None:
    found = reasons([*PAIR, Row("x", 1.0, "t")], Rule(objective, None, lone, pools))
    assert found == ({"x": reason} if reason else {})


def test_one_whose_group_was_learned_from_is_alone() -> None:
    assert reasons([*PAIR, Row("late", 0.5)], GRPO, {"a": "v", "b": "v"})["late"] == "alone in its group"


def test_lone_ones_of_a_window_are_one_group_for_each_way_of_scoring() -> None:
    rule = Rule("grpo", lone="batch_baseline")
    rows = [
        Row("x", 0.0, "1"),
        Row("y", 1.0, "2"),
        Row("z", 0.5, "3", NEXT),
        Row("w", 0.25, "4", NEXT),
        Row("h", 0.5, "5", apart=" heuristic:agent"),
        Row("i", 0.75, "6", apart=" heuristic:agent"),
        Row("j", 0.75, "7", apart=" judge abc"),
        *PAIR,
    ]
    found = usable(rows, rule, {})
    assert groups(found) == {
        f"{HOUR} lone": ["x", "y"],
        f"{NEXT} lone": ["z", "w"],
        f"{HOUR} lone heuristic:agent": ["h", "i"],
        f"{HOUR} s": ["a", "b"],
    }
    assert found.reasons == {"alone in its group": 1}


def test_lone_ones_that_score_the_same_have_no_variance_either() -> None:
    rows = [Row("x", 0.5, "1"), Row("y", 0.5, "2")]
    expected = "its group has no variance: all 2 scores are 0.5"
    assert reasons(rows, Rule("grpo", lone="batch_baseline")) == {"x": expected, "y": expected}


def test_a_scenario_called_lone_is_not_mixed_with_the_lone_ones() -> None:
    rows = [Row("a", 0.0, "lone"), Row("b", 1.0, "lone"), Row("x", 0.0, "1"), Row("y", 1.0, "2")]
    found = groups(usable(rows, Rule("grpo", lone="batch_baseline"), {}))
    assert found == {f"{HOUR} lone": ["a", "b"], f"{HOUR} lone'": ["x", "y"]}


def test_a_round_is_left_to_its_objective() -> None:
    rows = [
        Row("a", 1.0, window=ROUND),
        Row("b", 1.0, window=ROUND),
        Row("c", 0.0, "t", ROUND),
        Row("d", None, "u", ROUND),
    ]
    for lone in ("skip", "batch_baseline", "score_alone"):
        found = usable(rows, Rule("grpo", lone=lone), {"a": "demo-v1.0.1"})
        assert groups(found) == {f"{ROUND} s": ["a", "b"], f"{ROUND} t": ["c"]}
        assert found.reasons == {"not scored": 1}


def test_reasons_are_counted_the_most_frequent_first() -> None:
    rows = [Row("a", None), Row("b", 0.5), Row("c", None), Row("d", 0.5, "t")]
    assert list(usable(rows, GRPO, {}).reasons.items()) == [("alone in its group", 2), ("not scored", 2)]


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"objective": "sft", "min_score": 0.5, "steps": 3}, Rule("sft", 0.5, "skip")),
        ({"objective": "grpo", "lone": "pooled"}, Rule("grpo", None, "skip", pools=True)),
        ({"objective": "grpo"}, Rule("grpo", None, "skip")),
    ],
)
def test_the_rule_is_read_from_a_jobs_config(config: dict[str, Any], rule: Rule) -> None:
    assert Rule.of(config, "skip") == rule


ROWS = st.lists(
    st.builds(
        Row,
        st.integers(0, 10_000).map(str),
        st.none() | st.sampled_from([0.0, 0.5, 1.0]),
        st.sampled_from(["s", "t", "u", "lone"]),
        st.sampled_from([HOUR, NEXT, ROUND]),
        st.sampled_from(["", " judge abc"]),
    ),
    max_size=40,
    unique_by=lambda row: row.trajectory_id,
)
RULES = st.builds(
    Rule,
    st.sampled_from(["sft", "weighted_sft", "ppo", "grpo", "dpo"]),
    st.none() | st.just(0.5),
    st.sampled_from(["skip", "batch_baseline", "score_alone"]),
    st.booleans(),
    st.none() | st.builds(HeldOut, share=st.floats(0.01, 0.99), salt=st.text(max_size=3), verifier=st.just("m:f")),
)


@given(ROWS, RULES, st.randoms(use_true_random=False))
def test_every_row_is_kept_or_left_out_whatever_the_order(rows: list[Row], rule: Rule, chance: Any) -> None:
    learned = {row.trajectory_id: "v" for row in rows if chance.random() < 0.2}
    found = usable(rows, rule, learned)
    kept, left_out = [one.row for one in found.kept], [one.row for one in found.left_out]
    assert sorted([*kept, *left_out], key=rows.index) == rows
    assert [*map(rows.index, kept)] == sorted(map(rows.index, kept))
    assert sum(found.reasons.values()) == len(left_out)
    shuffled = list(rows)
    chance.shuffle(shuffled)
    other = usable(shuffled, rule, learned)
    assert {one.row: one.group for one in other.kept} == {one.row: one.group for one in found.kept}
    assert {one.row: one.reason for one in other.left_out} == {one.row: one.reason for one in found.left_out}


@given(ROWS, RULES)
def test_what_is_compared_differs_and_can_be_compared(rows: list[Row], rule: Rule) -> None:
    members: dict[str, list[Row]] = defaultdict(list)
    for one in usable(rows, rule, {}).kept:
        members[one.group].append(one.row)
    for group in members.values():
        assert len({(row.window, row.apart) for row in group}) == 1
        if rule.objective in UNGROUPED or is_round(group[0].window):
            continue
        assert len({row.score for row in group}) > 1 or (len(group) == 1 and rule.pools and rule.lone != "skip")


def test_what_was_refused_is_left_out_whatever_else_it_is() -> None:
    rows = [*PAIR, Row("c", None, is_refused=True), Row("d", 1.0, window=ROUND, is_refused=True)]
    assert reasons(rows, GRPO, {"c": "v"}) == dict.fromkeys("cd", "its owner refused consent")


def test_what_is_held_out_is_left_out_but_for_rounds() -> None:
    held = HeldOut(share=0.5, salt="s", verifier="m:f")
    names = [f"scenario-{number}" for number in range(40)]
    rows = [Row(f"{name}/{n}", float(n), name) for name in names for n in range(2)]
    rows += [Row(f"round/{name}", None, name) for name in names[:1]] + [Row("played", 1.0, names[0], ROUND)]
    kept_out = {name for name in names if is_held_out(name, 0.5, "s")}
    assert 10 < len(kept_out) < 30
    found = usable(rows, Rule("grpo", held_out=held), {})
    assert {one.row.scenario_id for one in found.left_out if one.reason == "held out for evaluation"} == kept_out
    assert {one.row.scenario_id for one in found.kept if not is_round(one.row.window)} == set(names) - kept_out
    assert "played" in {one.row.trajectory_id for one in found.kept}
    assert usable([Row("c", 1.0, next(iter(kept_out)), is_refused=True)], Rule("sft", held_out=held), {}).reasons == {
        "its owner refused consent": 1
    }


@given(ROWS, RULES)
def test_nothing_that_is_held_out_is_ever_kept(rows: list[Row], rule: Rule) -> None:
    kept = {one.row.scenario_id for one in usable(rows, rule, {}).kept if not is_round(one.row.window)}
    held = rule.held_out
    assert held is None or not {one for one in kept if is_held_out(one, held.share, held.salt)}
