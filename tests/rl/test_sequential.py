from __future__ import annotations

import math

import numpy as np
import pytest

from rl.anytime import ODDS, log_mixed
from rl.contrast import Reward
from rl.errors import InvalidInput
from rl.sequential import Attempts, Failures, Rules, State, alphas, credible, failed, look, update

RULES = Rules()


def _rewards(
    canary: float, stable: float, hours: int = 10, agents: int = 100, share: float = 0.2, seed: int = 0
) -> list[Reward]:
    """One reward of 1 or 0 of each agent in each hour."""
    rng = np.random.default_rng(seed)
    rows = []
    for hour in range(hours):
        for agent in range(agents):
            is_canary = agent < share * agents
            total = float(rng.random() < (canary if is_canary else stable))
            rows.append(Reward(0, hour, f"agent{agent}", is_canary, total))
    return rows


def _state(**signals: list[Reward]) -> State:
    return update(State(), RULES, signals)


def test_without_rewards_it_waits_and_says_so() -> None:
    found = look(update(State(), RULES, {}, [Attempts((1, 50), (3, 450))]), RULES)
    assert (found.say, found.cause, found.lower) == ("wait", None, None)
    assert found.reason == (
        "no reward of either version has come; 1 of 50 requests of the canary failed, 3 of 450 of the stable version"
    )


def test_few_rewards_wait_too() -> None:
    few = look(_state(reward=_rewards(0.0, 1.0, hours=2)), RULES)
    assert few.say == "wait"
    assert few.reason.startswith("reward has come 40 times from 20 units of the canary version, fewer than 50 from 8;")
    narrow = look(_state(reward=_rewards(0.0, 1.0, hours=20, share=0.05)), RULES)
    assert (narrow.say, narrow.lower) == ("wait", None)
    assert narrow.reason.startswith("reward has come 100 times from 5 units of the canary")


def test_a_worse_canary_is_rolled_back_with_its_evidence() -> None:
    found = look(_state(reward=_rewards(0.3, 0.7)), RULES)
    assert (found.say, found.cause) == ("roll back", "worse")
    (evidence,) = found.evidence
    assert (evidence.canary.n, evidence.canary.units) == (200, 20)
    assert (evidence.stable.n, evidence.stable.units) == (800, 80)
    assert evidence.difference == pytest.approx(evidence.canary.mean - evidence.stable.mean)
    assert evidence.upper is not None
    assert evidence.upper < 0
    assert found.reason == (
        f"worse: reward {evidence.canary.mean:.4g} in 200 rewards of 20 agents against {evidence.stable.mean:.4g} "
        f"in 800 rewards of 80 agents: difference {evidence.difference:+.3g}, at most {evidence.upper:+.3g} at any look"
    )


def test_a_better_canary_is_promoted() -> None:
    found = look(_state(reward=_rewards(0.9, 0.5)), RULES)
    assert (found.say, found.cause) == ("promote", "better")
    assert found.lower is not None
    assert found.lower > 0


def test_an_equal_canary_goes_on() -> None:
    found = look(_state(reward=_rewards(0.6, 0.6)), RULES)
    assert (found.say, found.cause) == ("continue", None)
    assert ", between -0." in found.reason


def test_a_margin_is_what_better_means() -> None:
    state = _state(reward=_rewards(0.9, 0.5))
    assert look(state, Rules(margin=0.39)).say == "continue"
    slightly_worse = _state(reward=_rewards(0.55, 0.6, hours=40, agents=400))
    assert look(slightly_worse, RULES).cause == "worse"
    assert look(slightly_worse, Rules(margin=-0.2)).say == "promote"


def test_requests_that_fail_roll_back_even_without_rewards() -> None:
    batches = [Attempts((1, 10), (0, 90))] * 3
    found = look(update(State(), RULES, {}, batches), RULES)
    assert (found.say, found.cause) == ("roll back", "failing")
    assert found.reason == (
        "3 of 30 requests of the canary failed, 0 of 270 of the stable version: "
        "evidence for more than 1.5 times the odds 45.2 to 1, at least 20"
    )
    assert log_mixed(found.failures.logs) >= math.log(20)
    assert look(update(State(), RULES, {}, batches[:2]), RULES).say == "wait"


def test_evidence_without_the_unit_with_most_failures_is_counted_beside_that_of_all() -> None:
    found = failed(Failures(), Attempts((2, 10), (0, 30), (1, 9)), ratio=1.0)
    assert (found.canary, found.stable, found.others) == ((2, 10), (0, 30), (1, 9))
    twice = ODDS.index(2.0)
    assert math.exp(found.logs[twice]) == pytest.approx(2**2 / 1.25**2)
    assert math.exp(found.logs_of_others[twice]) == pytest.approx(2 / (1 + 9 / 39))
    assert credible(found) == log_mixed(found.logs_of_others) < log_mixed(found.logs)
    assert failed(Failures(), Attempts((2, 10), (0, 30)), 1.0).others == (2, 10), "nobody knows whose they were"


def test_failures_of_one_unit_alone_roll_nothing_back() -> None:
    alone = [Attempts((1, 10), (0, 90), (0, 9))] * 30
    found = look(update(State(), RULES, {}, alone), RULES)
    assert (found.say, found.cause) == ("wait", None)
    of_one = "(30 of the canary's are one agent's)"
    words = f"; 30 of 300 requests of the canary failed, 0 of 2,700 of the stable version {of_one}"
    assert found.reason.endswith(words)
    both = look(update(State(), RULES, {}, [Attempts((2, 10), (0, 90), (1, 9))] * 3), RULES)
    assert (both.say, both.cause) == ("roll back", "failing")
    assert both.reason.startswith("6 of 30 requests of the canary failed, 0 of 270 of the stable version: evidence")


def _day(rng: np.random.Generator, share: float) -> Failures:
    """Two days of equal versions and 100 agents with 12 calls an hour, of whom one fails always and 1 % of the rest."""
    is_canarys, fails = rng.random(100) < share, np.full(100, 0.01)
    fails[0] = 1.0
    calls = rng.poisson(2, (48 * 6, 100))
    lost = rng.binomial(calls, fails)
    most = int(np.argmax(lost.sum(0) * is_canarys))
    n, k = calls @ is_canarys, lost @ is_canarys
    batches = zip(k, n, lost.sum(1) - k, calls.sum(1) - n, calls[:, most], lost[:, most], strict=True)
    found = Failures()
    for failures, requests, stable_failures, stable, of_one, of_one_failed in (map(int, row) for row in batches):
        others = (failures - of_one_failed, requests - of_one)
        found = failed(found, Attempts((failures, requests), (stable_failures, stable), others), RULES.failure_ratio)
        if credible(found) >= -math.log(RULES.alpha):
            break
    return found


def test_an_agent_that_fails_whoever_answers_does_not_roll_an_equal_canary_back() -> None:
    rng = np.random.default_rng(0)
    days = [_day(rng, 0.5) for _ in range(40)]
    assert sum(credible(one) >= -math.log(RULES.alpha) for one in days) <= 2
    assert sum(log_mixed(one.logs) >= -math.log(RULES.alpha) for one in days) >= 10, "what the rule is for"


def test_failures_of_both_versions_are_no_reason() -> None:
    found = look(update(State(), RULES, {"reward": _rewards(0.6, 0.6)}, [Attempts((3, 10), (27, 90))] * 30), RULES)
    assert found.say == "continue"


def test_feedback_may_roll_back_and_not_promote() -> None:
    equal, up, down = _rewards(0.6, 0.6), _rewards(0.9, 0.5, seed=1), _rewards(0.2, 0.8, seed=1)
    assert look(_state(reward=equal, thumbs=up), RULES).say == "continue"
    worse = look(_state(reward=equal, thumbs=down), RULES)
    assert (worse.say, worse.cause) == ("roll back", "worse")
    assert worse.reason.startswith("worse: thumbs ")
    assert look(_state(thumbs=up), RULES).say == "wait"
    assert look(_state(thumbs=up), Rules(primary="thumbs")).say == "promote"


def test_signals_share_the_chance_of_a_false_alarm() -> None:
    rows = _rewards(0.3, 0.7)
    alone, beside = look(_state(reward=rows), RULES), look(_state(reward=rows, thumbs=rows), RULES)
    (one,), (reward, thumbs) = alone.evidence, beside.evidence
    assert reward == one, "what comes beside the primary signal takes nothing from it"
    assert reward.upper is not None
    assert thumbs.upper is not None
    assert thumbs.upper > reward.upper
    assert thumbs.lower == reward.lower


def test_half_of_the_chance_is_the_primary_signals_and_each_other_keeps_its_part() -> None:
    few = alphas(["thumbs"], RULES)
    assert few == pytest.approx({"reward": 0.025, "thumbs": 0.0125})
    more = alphas(["thumbs", "reward", "stars", "a"], RULES)
    assert more == pytest.approx({"reward": 0.025, "thumbs": 0.0125, "stars": 0.025 / 6, "a": 0.025 / 12})
    assert few.items() <= more.items(), "those that come later take nothing from those before"
    assert sum(alphas([f"name{n}" for n in range(1000)], RULES).values()) < RULES.alpha


def test_rewards_keep_their_place_where_another_signal_is_the_primary_one() -> None:
    rules = Rules(primary="stars")
    assert alphas(["thumbs"], rules) == pytest.approx({"stars": 0.025, "reward": 0.0125, "thumbs": 0.025 / 6})
    assert alphas(["thumbs", "reward"], rules) == alphas(["thumbs"], rules)


def test_signals_keep_the_order_in_which_they_came() -> None:
    rows = _rewards(0.3, 0.7)
    state = update(update(State(), RULES, {"z": rows}), RULES, {"a": rows, "z": rows, "reward": rows})
    assert list(state.signals) == ["z", "a", "reward"]
    upper = {one.signal: one.upper for one in look(state, RULES).evidence}
    first = look(update(State(), RULES, {"a": rows}), RULES).evidence[0].upper
    assert upper["a"] is not None
    assert first is not None
    assert upper["a"] > first, "a came after z"


def test_updates_may_come_in_any_pieces() -> None:
    rows, batches = _rewards(0.3, 0.7), [Attempts((1, 10), (2, 90)), Attempts((0, 12), (1, 80))]
    at_once = look(update(State(), RULES, {"reward": rows}, batches), RULES)
    state = State()
    for i in range(0, len(rows), 77):
        state = update(state, RULES, {"reward": rows[::-1][i : i + 77]}, batches[i // 77 : i // 77 + 1])
    in_pieces = look(state, RULES)
    assert (in_pieces.say, in_pieces.cause) == (at_once.say, at_once.cause) == ("roll back", "worse")
    assert in_pieces.failures.canary == (1, 22)
    assert in_pieces.lower == pytest.approx(at_once.lower)


def test_young_hours_can_be_left_out() -> None:
    state = _state(reward=_rewards(0.9, 0.5))
    assert look(state, RULES, before=10) == look(state, RULES)
    assert look(state, RULES, before=5) == look(_state(reward=[r for r in _rewards(0.9, 0.5) if r.cohort < 5]), RULES)
    assert look(state, RULES, before=0).say == "wait"


def test_a_state_is_not_changed_by_an_update() -> None:
    before = _state(reward=_rewards(0.6, 0.6, hours=1))
    update(before, RULES, {"reward": _rewards(0.6, 0.6)}, [Attempts((1, 1), (1, 1))])
    assert len(before.signals["reward"].n) == 100
    assert before.failures == Failures()


def test_a_verdict_can_be_stored() -> None:
    found = look(_state(reward=_rewards(0.9, 0.5)), RULES)
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput):
        update(State(), RULES, {"reward": [Reward(0, 0, "a", True, math.nan)]})
    with pytest.raises(InvalidInput):
        update(State(), RULES, {}, [Attempts((2, 1), (0, 0))])
