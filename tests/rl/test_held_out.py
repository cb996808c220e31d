from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rl.config import LineConfig, digest
from rl.errors import InvalidInput, MalformedWindow
from rl.held_out import HeldOut, is_held_out, sets_of
from rl.scoring_config import Judge

JUDGE = Judge(model="judge-1")


def held(**values: Any) -> HeldOut:
    return HeldOut(**({"judge": JUDGE} | values))


def test_the_later_half_of_the_hours_up_to_the_newest_is_for_the_decision() -> None:
    hours = ["2025-01-14T22:00", "2025-01-15T10:00", "2025-01-13T00:00"]
    validation, decision = sets_of(hours, held(hours=24, share=0.25, salt="s", scenarios=50, samples=2), "main-v1.0.3")
    assert (validation.split, validation.since, validation.until) == (
        "validation",
        "2025-01-14T11:00",
        "2025-01-14T23:00",
    )
    assert (decision.split, decision.since, decision.until) == ("held_out", "2025-01-14T23:00", "2025-01-15T11:00")
    for one in (validation, decision):
        assert (one.share, one.salt, one.count, one.samples) == (0.25, "s", 50, 2)
        assert (one.judge, one.verifier, one.against) == (JUDGE, None, "main-v1.0.3")


def test_the_decision_has_the_odd_hour() -> None:
    validation, decision = sets_of(["2025-03-01T00:00"], held(hours=3), "logged")
    assert (validation.since, validation.until) == ("2025-02-28T22:00", "2025-02-28T23:00")
    assert (decision.since, decision.until) == ("2025-02-28T23:00", "2025-03-01T01:00")


def test_a_verifier_compares_with_what_the_logs_hold_or_with_nothing() -> None:
    verified = HeldOut(verifier="https://verifier.example/right", hours=2)
    assert [one.against for one in sets_of(["2025-01-15T10:00"], verified, "main-v1.0.3")] == ["", ""]
    assert [one.against for one in sets_of(["2025-01-15T10:00"], verified, "logged")] == ["logged", "logged"]
    assert sets_of(["2025-01-15T10:00"], verified, "a")[1].verifier == "https://verifier.example/right"


def test_rounds_of_runs_are_no_hours() -> None:
    rounds = ["run/demo/0001", "2025-01-15T10:00", "run/demo/0002"]
    assert sets_of(rounds, held(), "logged") == sets_of(["2025-01-15T10:00"], held(), "logged")
    with pytest.raises(InvalidInput, match="hours of logs"):
        sets_of(["run/demo/0001"], held(), "logged")
    with pytest.raises(InvalidInput, match="hours of logs"):
        sets_of([], held(), "logged")
    with pytest.raises(MalformedWindow):
        sets_of(["yesterday"], held(), "logged")


def spans(*hours: str, span: int = 168, known: list[str] | None = None) -> list[tuple[str, str]]:
    return [
        (one.since[5:], one.until[5:]) for one in sets_of(list(hours), held(hours=span), "logged", known=known or [])
    ]


def test_hours_before_the_oldest_that_is_known_are_not_halved() -> None:
    ten, nine, three = "2025-01-15T10:00", "2025-01-15T09:00", "2025-01-15T03:00"
    assert spans(ten) == [("01-15T10:00", "01-15T10:00"), ("01-15T10:00", "01-15T11:00")]
    assert spans(ten, known=["run/demo/0001", nine, ten]) == [
        ("01-15T09:00", "01-15T10:00"),
        ("01-15T10:00", "01-15T11:00"),
    ]
    assert spans(ten, three, known=[nine]) == [("01-15T03:00", "01-15T07:00"), ("01-15T07:00", "01-15T11:00")]
    assert spans(ten, known=[three], span=4) == [("01-15T07:00", "01-15T09:00"), ("01-15T09:00", "01-15T11:00")]


def test_each_half_knows_the_other_where_one_chooses() -> None:
    hours = ["2025-01-15T10:00"]
    validation, decision = sets_of(hours, held(hours=4), "logged", chooses=True)
    assert validation.other_half == (decision.since, decision.until)
    assert decision.other_half == (validation.since, validation.until)
    assert [one.other_half for one in sets_of(hours, held(hours=4), "logged")] == [None, None]


def test_a_task_set_is_named_by_what_its_verdicts_depend_on() -> None:
    def name(**judge: Any) -> str:
        setting = Judge.model_validate({"model": "judge-1", "prompt_price": 1.0} | judge)
        return digest(sets_of(["2025-01-15T10:00"], held(judge=setting), "logged")[1])

    same = {"daily_budget": 2.0, "prompt_price": 2.0, "timeout_seconds": 1.0, "attempts": 9, "concurrency": 1}
    assert {name(**{key: value}) for key, value in same.items()} == {name()}
    other = {"model": "j", "rubric": "Be kind.", "seed": 3, "temperature": 1.0, "max_tokens": 5, "max_characters": 100}
    assert len({name(), *(name(**{key: value}) for key, value in other.items())}) == len(other) + 1


HOURS = st.integers(0, 5000).map(lambda n: (datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=n)).strftime("%FT%H:00"))


@given(st.lists(HOURS, min_size=1, max_size=8), st.integers(2, 400), st.randoms(use_true_random=False))
def test_the_halves_meet_and_end_with_the_newest_hour_whatever_the_order(
    hours: list[str], span: int, chance: Any
) -> None:
    setting = held(hours=span)
    validation, decision = sets_of(hours, setting, "logged")
    lengths = [
        (datetime.fromisoformat(one.until) - datetime.fromisoformat(one.since)) / timedelta(hours=1)
        for one in (validation, decision)
    ]
    assert lengths == [span // 2, span - span // 2]
    assert validation.until == decision.since
    assert datetime.fromisoformat(decision.until) - timedelta(hours=1) == datetime.fromisoformat(max(hours))
    chance.shuffle(hours)
    assert sets_of(hours, setting, "logged") == (validation, decision)


def test_a_scenario_is_held_out_by_the_first_53_bits_of_its_hash() -> None:
    bits = int(hashlib.sha256(b"salt\0market-7").hexdigest(), 16) >> (256 - 53)
    place = bits / 2**53
    assert 0 < place < 1
    assert not is_held_out("market-7", place, "salt")
    assert is_held_out("market-7", place + 2**-53, "salt")


def test_the_share_is_held_out_and_a_larger_one_holds_the_same_and_more() -> None:
    names = [f"scenario-{number}" for number in range(20_000)]
    tenth = {name for name in names if is_held_out(name, 0.1, "")}
    third = {name for name in names if is_held_out(name, 1 / 3, "")}
    assert tenth < third
    assert abs(len(tenth) / 20_000 - 0.1) < 4 * (0.1 * 0.9 / 20_000) ** 0.5
    assert tenth != {name for name in names if is_held_out(name, 0.1, "another")}


@pytest.mark.parametrize("values", [{"judge": None}, {"verifier": "module:function"}])
def test_exactly_one_judges(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"held_out\.judge"):
        held(**values)


@pytest.mark.parametrize("verifier", ["https://a.example/right", "http://10.0.0.7:8080/x", "shop.checks:right", "m:f"])
def test_a_verifier_is_a_url_or_a_function(verifier: str) -> None:
    assert HeldOut(verifier=verifier).verifier == verifier


@pytest.mark.parametrize(
    ("verifier", "said"),
    [
        ("right", "module:function"),
        ("ftp://a.example/right", "module:function"),
        ("https:///right", "module:function"),
        ("https://me:secret@a.example/right", "RLFLEET_VERIFIER_KEY"),
        ("https://a.example/right?key=secret", "RLFLEET_VERIFIER_KEY"),
    ],
)
def test_a_verifier_that_cannot_be_one(verifier: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        LineConfig.model_validate({"base_model": "b", "held_out": {"verifier": verifier}})
    assert "secret" not in str(caught.value)


def test_one_answer_is_greedy_and_several_are_sampled() -> None:
    assert [one.sampled_at for one in sets_of(["2025-01-15T10:00"], held(temperature=0.9), "logged")] == [0.0, 0.0]
    assert sets_of(["2025-01-15T10:00"], held(temperature=0.9, samples=2), "logged")[0].sampled_at == 0.9
