"""What an episode is made of, and which rows become episodes under an objective's rules."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter

from gpu.data import select
from gpu.episodes import Episode
from gpu.rows import Selection
from rl.config import TrainConfig
from rl.errors import InvalidInput, NoTrainingData, OffPolicyRefused
from rl.protocol import DatasetRow
from rl.records import Sequence as TokenSequence

CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
TOKENS: Any = SimpleNamespace(tokenizer=range(300))

Write = Callable[[Sequence[DatasetRow]], str]
Select = Callable[..., Selection]


def episode(*lengths: int) -> Episode:
    sequences = [
        TokenSequence(
            episode=0, ids=list(range(1, n + 1)), mask=[0] * (n - 1) + [1], logprobs=[0.0] * (n - 1) + [-float(n)]
        )
        for n in lengths
    ]
    return Episode(sequences)


def row(name: str, group: str, score: float, spoken: int = 2, finish: str | None = None) -> DatasetRow:
    call: dict[str, object] = {
        "call_id": name,
        "turn": 0,
        "model": "ours",
        "messages": [],
        "response": {"role": "assistant", "content": "x"},
        "prompt_token_ids": [1, 2, 3],
        "token_ids": [4] * spoken,
        "logprobs": [-1.0] * spoken,
        "finish_reason": finish,
    }
    return DatasetRow(trajectory_id=name, group=group, score=score, calls=[call])


@pytest.fixture
def chosen(write_rows: Write) -> Select:
    """The selection of rows for an objective."""

    def of(rows: Sequence[DatasetRow], objective: str, **fields: Any) -> Selection:
        config = {"objective": objective, "optimizer": {"learning_rate": 1e-3}} | fields
        return select(Path(write_rows(rows)), CONFIG.validate_python(config), TOKENS, 64)

    return of


def advantages(selection: Selection) -> list[float]:
    return [pytest.approx(one.advantage) for one in selection.episodes]


PAIR = [row("a", "g", 1.0), row("b", "g", 3.0, spoken=6)]


def test_an_episode_counts_what_it_spoke() -> None:
    assert (episode(4, 6).spoken, episode(4, 6).length) == (2, 10)


@pytest.mark.parametrize(
    ("objective", "fields", "expected"),
    [
        ("grpo", {}, [-(0.5**0.5), 0.5**0.5]),
        ("dr_grpo", {"max_tokens": 8}, [-1, 1]),
        ("rloo", {}, [-2, 2]),
        # The mean of -1 twice and 1 six times is 0.5, and their variance 0.75.
        ("reinforce_baseline", {}, [-1.5 / 0.75**0.5, 0.5 / 0.75**0.5]),
        ("reinforce_baseline", {"normalise_std": False}, [-1.5, 0.5]),
    ],
)
def test_advantages_are_the_objectives(
    chosen: Select, objective: str, fields: dict[str, Any], expected: list[float]
) -> None:
    selection = chosen(PAIR, objective, **fields)
    assert advantages(selection) == expected
    assert selection.group_size == 2


def test_lone_trajectories_are_pooled_when_told_so(chosen: Select) -> None:
    lone = [row("a", "1", 0.0), row("b", "2", 4.0), *(row(name, "3", 1.0) for name in "cd")]
    assert chosen(lone, "dr_grpo", max_tokens=8).skipped == {"no advantage in its group": 4}
    pooled = chosen(lone, "dr_grpo", max_tokens=8, lone="pooled")
    assert advantages(pooled) == [-2, 2]


def test_a_filter_leaves_out_groups_by_their_scores(chosen: Select) -> None:
    right = [row("c", "h", 1.0), row("d", "h", 1.5)]
    mixed = [row("a", "g", 0.0), row("b", "g", 1.0)]
    selection = chosen(right + mixed, "dapo")
    assert selection.skipped == {"mean score of its group outside filter": 2}
    assert [one.group for one in selection.episodes] == ["g", "g"]
    assert [one.group for one in chosen(right + mixed, "dapo", filter=None).episodes] == ["h", "h", "g", "g"]


def test_a_soft_overlong_rule_takes_off_by_length(chosen: Select) -> None:
    rule = {"rule": "soft", "max_tokens": 8, "buffer": 4, "factor": 2.0}
    # 6 tokens are 2 into the buffer of 4: half of the factor is taken off 3.
    assert advantages(chosen(PAIR, "dr_grpo", max_tokens=8, overlong=rule)) == [-0.5, 0.5]


def test_a_truncated_episode_is_worth_what_the_rule_says(chosen: Select) -> None:
    rule = {"rule": "stop_properly", "coefficient": -1.0}
    rows = [row("a", "g", 1.0, finish="stop"), row("b", "g", 3.0, finish="length")]
    selection = chosen(rows, "dr_grpo", max_tokens=8, overlong=rule)
    assert advantages(selection) == [1, -1]
    assert selection.warnings == []
    (warning,) = chosen(PAIR, "dr_grpo", max_tokens=8, overlong=rule).warnings
    assert "calls of 2 trajectories say no finish_reason" in warning


def test_clones_weigh_by_how_far_they_are_above_their_group(chosen: Select) -> None:
    selection = chosen(PAIR, "weighted_sft", steps=1, weight_temperature=2.0, weight_cap=1.5)
    assert [one.weight for one in selection.episodes] == [pytest.approx(0.60653066), 1.5]
    with pytest.raises(NoTrainingData, match="none of 0 rows"):
        chosen([], "weighted_sft", steps=1)


@pytest.mark.parametrize("objective", ["gspo", "dapo", "cispo", "rloo", "reinforce_baseline"])
def test_on_policy_objectives_refuse_foreign_calls(
    chosen: Select, make_row: Callable[..., DatasetRow], objective: str
) -> None:
    with pytest.raises(OffPolicyRefused, match="trajectory 7, call 7-0 has no tokens"):
        chosen([*PAIR, make_row(7)], objective)


def changed(row: DatasetRow, **fields: Any) -> DatasetRow:
    """``row`` with other fields of its call."""
    return row.model_copy(update={"calls": [row.calls[0] | fields]})


BAD = [
    (changed(row("bad", "g", 9.0), token_ids=[4, 300]), "a token that the model does not have"),
    (changed(row("bad", "g", 9.0), prompt_token_ids=[1, -2]), "a token that the model does not have"),
    (changed(row("bad", "g", 9.0), token_ids=[], logprobs=[]), "nothing was spoken"),
    (row("bad", "g", float("nan")), "its score is not a finite number"),
    (row("bad", "g", float("inf")), "its score is not a finite number"),
    (row("bad", "g", 9.0, spoken=100_000), "longer than the context"),
    (changed(row("bad", "g", 9.0), logprobs=[-1.0]), "a call with another number of log-probabilities than of tokens"),
    (changed(row("bad", "g", 9.0), logprobs=[-1.0, float("-inf")]), "a log-probability that is none"),
    (changed(row("bad", "g", 9.0), logprobs=[-1.0, 0.5]), "a log-probability that is none"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
@pytest.mark.parametrize("objective", ["sft", "dpo", "grpo", "ppo"])
def test_a_row_that_cannot_be_used_is_named_and_the_others_go_on(
    chosen: Select, objective: str, bad: DatasetRow, reason: str
) -> None:
    fields = {"steps": 1} if objective in ("sft", "dpo") else {}
    selection = chosen([*PAIR, bad], objective, **fields)
    assert selection.skipped == {reason: 1}
    assert selection.named == {reason: ["bad"]}
    assert (selection.read, len(selection.episodes)) == (3, 2)
    if objective == "grpo":
        assert advantages(selection) == [-(0.5**0.5), 0.5**0.5], "what is left out takes no part in its group"


def test_a_silent_turn_is_no_part_of_what_is_learnt(chosen: Select) -> None:
    silent = PAIR[0].calls[0] | {"turn": 1, "call_id": "silent", "token_ids": [], "logprobs": []}
    talked = PAIR[0].model_copy(update={"calls": [*PAIR[0].calls, silent]})
    selection = chosen([talked, PAIR[1]], "grpo")
    assert [one.spoken for one in selection.episodes] == [2, 6]
    assert not selection.skipped


def test_equal_scores_teach_nothing_and_are_counted(chosen: Select) -> None:
    selection = chosen([row(name, "g", 0.45) for name in "abc"], "grpo")
    assert not selection.episodes
    assert selection.skipped == {"no advantage in its group": 3}
    assert selection.variance == 0


def test_only_the_first_rows_left_out_are_named(chosen: Select) -> None:
    selection = chosen([row(str(k), "g", 0.5) for k in range(25)], "grpo")
    assert selection.skipped == {"no advantage in its group": 25}
    assert selection.named == {"no advantage in its group": [str(k) for k in range(10)]}


def test_versions_too_old_are_left_out(chosen: Select) -> None:
    old = row("old", "g", 2.0).model_copy(update={"staleness": 2})
    assert len(chosen([*PAIR, old], "grpo", max_staleness=2).episodes) == 2, "the mean of the group has no advantage"
    selection = chosen([*PAIR, old], "grpo", max_staleness=1)
    assert selection.skipped == {"spoken by a version older than max_staleness": 1}
    assert [one.staleness for one in chosen([*PAIR, old], "ppo").episodes] == [0, 0, 2]


def test_the_variance_is_of_groups_that_have_one(chosen: Select) -> None:
    lone = row("c", "h", 7.0)
    assert chosen([*PAIR, lone], "ppo").variance == 2.0
    assert chosen([lone], "ppo").variance is None


def test_ppo_keeps_what_has_no_group(chosen: Select) -> None:
    rule = {"rule": "soft", "max_tokens": 8, "buffer": 4, "factor": 2.0}
    selection = chosen([row("a", "1", 3.0, spoken=6), row("b", "2", 3.0)], "ppo", overlong=rule)
    assert [one.reward for one in selection.episodes] == [2.0, 3.0]


def test_calls_that_say_nothing_are_noted(chosen: Select) -> None:
    silent = PAIR[0].calls[0] | {"turn": 1, "call_id": "silent", "token_ids": [], "logprobs": []}
    talked = PAIR[0].model_copy(update={"calls": [*PAIR[0].calls, silent]})
    assert chosen([talked, PAIR[1]], "grpo").silent == ["a/silent"]


def test_messages_that_the_template_refuses_cost_their_row_alone(
    write_rows: Write, make_row: Callable[..., DatasetRow]
) -> None:
    class Strict:
        tokenizer = range(300)

        def answer(self, call: Any) -> tuple[list[int], list[int]]:
            if call.messages[0].role != "system":
                raise InvalidInput("messages", "first must be system", "send messages that the template accepts")
            return [1, 2], [3]

    bad = make_row(1)
    bad.calls[0]["messages"] = [{"role": "user", "content": "hello"}]
    config = CONFIG.validate_python({"objective": "sft", "steps": 1, "optimizer": {"learning_rate": 1e-3}})
    tokens: Any = Strict()
    selection = select(Path(write_rows([make_row(0), bad])), config, tokens, 64)
    assert selection.named == {"the chat template refuses its messages": ["1"]}
    assert len(selection.episodes) == 1
