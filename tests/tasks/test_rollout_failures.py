"""Episodes that fail are recorded with the boundary that they crossed; a shard of which most fail is not."""

from __future__ import annotations

from typing import Any

import pytest

import environments
from db import calls
from db.session import transaction
from environments.babyai.goto import BabyAIGotoEpisode
from environments.contract import Step
from gateway.settings import GatewaySettings
from rl.config import Rollout
from rl.errors import InvalidInput, SandboxUnavailable, TransientError
from rl.records import ScenarioRef
from tasks.carry import Lease
from tasks.frozen import age_of
from tasks.rollout import from_rollout
from tasks.shard import MUTE
from tests.gateway.conftest import world
from tests.tasks.rollout_double import WINDOW, be_patient, refusal, walks
from tests.tasks.rows import claimed, rows
from tests.tasks.test_rollout import Make, make, make_due

__all__ = ["make", "world"]


def opening(seed: int) -> str:
    """What the scenario shows first."""
    ref = ScenarioRef(environment="babyai-goto", split="train", seed=seed)
    return str(environments.load("babyai-goto").open(ref).messages[1].content)


def is_of(body: dict[str, Any], seed: int) -> bool:
    return bool(body["messages"][1]["content"] == opening(seed))


def test_a_refused_conversation_is_recorded_and_the_others_are_trained_on(make: Make) -> None:
    round_ = make(lambda body: refusal(400, "no such thing") if is_of(body, 2) else walks(body))
    result = round_.play(round_.jobs[0])
    assert result == {"trajectories": 6, "failed": 2, "policy": round_.world.names[0], "success": 1.0}
    assert round_.state() == "collected"
    assert [row[:3] for row in round_.quarantined()] == [
        ("rollout", f"{WINDOW}/2/{sample}/fence-1", "engine") for sample in (0, 1)
    ]
    assert "refused the call with 400: no such thing" in round_.quarantined()[0][3]


def test_a_conversation_that_outgrows_the_context_keeps_what_it_earned(make: Make) -> None:
    def says(body: dict[str, Any]) -> Any:
        if is_of(body, 1) and len(body["messages"]) > 2:
            return refusal(400, "the context holds 64 tokens; send fewer", "context_length_exceeded")
        return "turn left" if is_of(body, 1) else walks(body)

    round_ = make(says)
    result = round_.play(round_.jobs[0])
    assert (result["trajectories"], result["failed"], result["success"]) == (8, 0, 0.75)
    told = rows("select reward, details from rlfleet.trajectories where scenario_id = 'babyai-goto/train/1'")
    kept = [(row.reward, row.details["truncated"], row.details["boundary"]) for row in told]
    assert kept == [(0, True, "context")] * 2
    assert round_.quarantined() == []


def test_an_opening_that_the_context_does_not_hold_is_no_episode_to_learn_from(make: Make) -> None:
    words = "This model's maximum context length is 8 tokens."
    round_ = make(lambda body: refusal(400, words) if is_of(body, 1) else walks(body))
    assert round_.play(round_.jobs[0])["failed"] == 2
    assert [row[2:] for row in round_.quarantined()] == [("context", words)] * 2


@pytest.mark.parametrize(
    ("error", "boundary", "words"),
    [
        (ZeroDivisionError("division by zero\nof a secret"), "environment", "ZeroDivisionError: division by zero"),
        (InvalidInput("x", 1, "other"), "environment", "InvalidInput: x = 1: other"),
        (SandboxUnavailable("no level here"), "sandbox", "no level here"),
    ],
)
def test_what_an_environment_raises_is_recorded_in_words(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: Exception, boundary: str, words: str
) -> None:
    step, first = BabyAIGotoEpisode.step, opening(3)

    def raises(episode: BabyAIGotoEpisode, action: str) -> Step:
        if episode._opening == first:
            raise error
        return step(episode, action)

    monkeypatch.setattr(BabyAIGotoEpisode, "step", raises)
    round_ = make()
    assert round_.play(round_.jobs[0])["failed"] == 2
    assert [row[2:] for row in round_.quarantined()] == [(boundary, words)] * 2
    assert (round_.state(), len(round_.stored())) == ("collected", 6)


@pytest.mark.slow
def test_an_episode_that_stalls_is_given_up_and_the_others_go_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch, 0)
    round_ = make(stall_seconds=6)
    round_.engine.hangs_on = lambda body: is_of(body, 0)
    result = round_.play(round_.jobs[0])
    round_.engine.hangs_on = None
    assert (result["trajectories"], result["failed"]) == (6, 2)
    assert [row[2:] for row in round_.quarantined()] == [("stall", "turn 0 took more than 6 s")] * 2


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 64])
@pytest.mark.parametrize("hangs", [True, False])
def test_a_conversation_that_the_engine_never_answers_fails_alone(
    make: Make, hangs: bool, concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one of the shard too, after which nothing else is asked."""
    monkeypatch.setattr("gateway.errors.RETRY_AFTER_SECONDS", 0.1)
    be_patient(monkeypatch)
    round_ = make(scenarios=6, stall_seconds=24, answer_seconds=1, concurrency=concurrency)
    if hangs:
        round_.engine.hangs_on = lambda body: is_of(body, 5)
    else:
        round_.engine.model = lambda body: refusal(500, "no memory") if is_of(body, 5) else walks(body)
    result = round_.play(round_.jobs[0])
    assert (result["trajectories"], result["failed"], round_.state()) == (10, 2, "collected")
    assert {row[2] for row in round_.quarantined()} == {"engine"}
    assert "answers 503: " in round_.quarantined()[0][3]
    assert rows("select distinct trajectory_id from rlfleet.calls where trajectory_id like '%/another'") == []


def test_a_reply_that_hangs_is_a_stall_before_the_gateway_gives_it_up() -> None:
    given_up = GatewaySettings.model_fields["answer_seconds"].default
    assert Rollout.model_fields["stall_seconds"].default < given_up


def test_an_answer_without_tokens_fails_its_episode_and_not_its_round(make: Make) -> None:
    round_ = make()
    round_.engine.mute = lambda body: is_of(body, 2)
    result = round_.play(round_.jobs[0])
    assert (result["trajectories"], result["failed"], round_.state()) == (6, 2, "collected")
    assert [row[2:] for row in round_.quarantined()] == [("engine", MUTE)] * 2
    name = round_.world.names[0]
    with transaction() as session:
        spoken = calls.of_trajectories(session, round_.stored())
    assert {age_of(one, said, {name: 0}, name) for one, said in spoken.items()} == {0}


def test_an_engine_that_never_gives_tokens_fails_the_job_with_that_reason(make: Make) -> None:
    round_ = make(scenarios=6)
    round_.engine.mute = lambda _: True
    claim = claimed(round_.jobs[0])
    with pytest.raises(TransientError, match=r" of 12 episodes failed \(engine \d+\); .*without tokens and log-prob"):
        from_rollout(claim, Lease(claim, 60))
    assert (round_.state(), round_.stored(), round_.quarantined()) == ("closed", [], [])


def test_a_shard_of_which_most_fail_records_none_of_them_and_is_tried_again(make: Make) -> None:
    round_ = make(lambda body: walks(body) if is_of(body, 0) else refusal(400, "no"), concurrency=1)
    (job_id,) = round_.jobs
    claim = claimed(job_id)
    told = rf"^5 of 8 episodes failed \(engine 5\); {WINDOW}/1/0/fence-1: .*400: no$"
    with pytest.raises(TransientError, match=told):
        from_rollout(claim, Lease(claim, 60))
    assert (round_.state(), round_.quarantined(), round_.episodes()) == ("closed", [], ["0/0", "0/1"])
    round_.engine.model = walks
    make_due(job_id)
    assert round_.play(job_id) == {"trajectories": 8, "failed": 0, "policy": round_.world.names[0], "success": 1.0}
    assert round_.state() == "collected"


def test_half_of_a_shard_may_fail(make: Make) -> None:
    round_ = make(lambda body: walks(body) if is_of(body, 0) or is_of(body, 1) else refusal(422, "no"))
    assert round_.play(round_.jobs[0])["failed"] == 4
    assert round_.state() == "collected"


def test_failed_episodes_of_other_shards_count_as_played(make: Make) -> None:
    round_ = make(lambda body: refusal(400, "no") if is_of(body, 0) else walks(body), shard=2)
    assert [round_.play(job_id)["failed"] for job_id in round_.jobs] == [2, 0]
    assert (round_.state(), len(round_.stored())) == ("collected", 6)
