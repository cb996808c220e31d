from __future__ import annotations

from dataclasses import replace

import pytest

from rl.choosing import points_of, ranking
from rl.config import TaskSet
from rl.health import Training, broken, of_evaluation, of_training, reason_of
from rl.line_state import Result, VersionState

SET = TaskSet(environment="gridworld", split="validation", count=40)
MANIFEST = {
    "config": {"kl": {"target": 0.02}},
    "rows": {"used": 7, "skipped": {"no advantage in its group": 30, "longer than the context": 9}},
}


def test_a_training_is_read_from_its_metrics_and_its_manifest() -> None:
    found = Training.of({"reference_kl": 0.15, "truncated_share": 0.25}, MANIFEST)
    assert found == Training(reference_kl=0.15, kl_target=0.02, truncated_share=0.25, untaught=30, trajectories=37)
    assert dict(of_training(found)) == {
        "KL": "the KL to the reference is 0.15 nats per token, 7.5 times its target of 0.02; the limit is 5 times",
        "TRUNCATION": "25.0% of the batch's episodes had an answer cut by its token limit; the limit is 10%",
        "NO_VARIANCE": "30 of 37 trajectories are of groups whose scores are equal; the limit is 80%",
    }


def test_at_its_limits_a_training_is_well() -> None:
    at = Training(reference_kl=0.1, kl_target=0.02, truncated_share=0.1, untaught=8, trajectories=10)
    assert list(of_training(at)) == []


@pytest.mark.parametrize("manifest", [{}, {"config": {"kl": None}, "rows": None}, {"rows": {"used": None}}])
def test_what_was_not_recorded_raises_nothing(manifest: dict[str, object]) -> None:
    assert list(of_training(Training.of({"reference_kl": 3.0, "loss": 1.0}, manifest))) == []


def test_groups_count_for_the_last_checkpoint_alone() -> None:
    assert Training.of({}, MANIFEST, is_last=False) == Training(kl_target=0.02)


def test_broken_episodes() -> None:
    assert list(of_evaluation(40, 3, 0)) == [
        ("BROKEN", "3 of 40 episodes hold an empty or endlessly repeated answer; the limit is 5%")
    ]
    assert list(of_evaluation(60, 3, 0)) == []  # 5 %
    assert list(of_evaluation(4, 2, 0)) == []  # too few to tell


def test_episodes_at_the_turn_limit() -> None:
    assert list(of_evaluation(40, 0, 20)) == []
    assert list(of_evaluation(40, 0, 21)) == [
        ("TURN_LIMIT", "21 of 40 episodes end at the turn limit; the limit is 50%")
    ]
    assert list(of_evaluation(40, 0, 21, (11, 20))) == []  # 0.525 against 0.55
    assert list(of_evaluation(40, 0, 30, (11, 20))) == [
        ("TURN_LIMIT", "30 of 40 episodes end at the turn limit, 11 of 20 at the start; the limit is 50%")
    ]


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("a" * 32, "repeated"),
        ("a" * 31, None),
        ("so: " + "no " * 16, "repeated"),
        ("so: " + "no " * 10, None),
        ("0123456789abcdef" * 16, "repeated"),
        ("0123456789abcdef" * 15, None),
        ("| a |\n|---|\n" + "-" * 80 + "\nand so on", None),
        ("left", None),
    ],
)
def test_broken_answers(text: str, how: str | None) -> None:
    assert broken(text) == how


def test_the_reason_of_a_verdict_tells_how_its_episode_went() -> None:
    assert reason_of(None, at_limit=False) is None
    assert reason_of("empty", at_limit=False) == "broken output: empty"
    assert reason_of("repeated", at_limit=True) == "broken output: repeated; the turn limit ended it"


def test_a_chain_tells_of_the_checkpoints_that_are_ill() -> None:
    well = Result(20, 40, 3.0, {"gridworld": (20, 40)})
    training: dict[int | None, Training] = {
        4: Training.of({"reference_kl": 1.0}, MANIFEST, is_last=False),
        8: Training(),
    }
    trained = VersionState("v1", "candidate", (), {}, (4, 8), training=training)
    points = points_of(VersionState("v0", "ready", (), {}), [trained])
    found = ranking(points, {0: replace(well, at_limit=30), 2: replace(well, broken=9, at_limit=30)}, SET)
    told = [(one.name, points[one.step].label) for one in found.alarms()]
    assert told == [("KL", "v1@4"), ("BROKEN", "v1@8")]
    assert [one["name"] for one in found.evidence()["alarms"]] == ["KL", "BROKEN"]
