"""A frozen dataset as episodes to train on.

Which rows may be trained on depends on the objective. GRPO is on-policy: every call must carry the tokens
and log-probabilities of one of our versions at the temperature that is trained at, or the whole dataset is
refused. SFT may clone anyone: calls without tokens are tokenised through the chat template.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from gpu.tokens import ChatTokens
from rl.advantages import group_normalised
from rl.config import GrpoTrain, SftTrain
from rl.errors import InvalidInput, NoTrainingData, OffPolicyRefused
from rl.protocol import DatasetRow
from rl.records import Call
from rl.records import Sequence as TokenSequence
from rl.sequences import merge


@dataclass(frozen=True)
class Episode:
    """One trajectory as token sequences, with the advantage of all its tokens (0 for SFT).

    ``group`` names the trajectories that it most likely begins like.
    """

    sequences: list[TokenSequence]
    advantage: float = 0.0
    group: str = ""

    @property
    def spoken(self) -> int:
        """How many tokens the policy spoke."""
        return sum(sum(one.mask) for one in self.sequences)

    @property
    def length(self) -> int:
        return sum(len(one.ids) for one in self.sequences)


@dataclass
class Selection:
    """The episodes of a dataset that can be trained on, and why the other rows were left out."""

    episodes: list[Episode]
    read: int
    skipped: Counter[str] = field(default_factory=Counter)


def read_rows(path: Path) -> list[tuple[DatasetRow, list[Call]]]:
    """The rows of a JSON-lines dataset with their calls typed, in turn order.

    Raises:
        InvalidInput: the file is missing, or a line is not a ``DatasetRow``.
    """
    if not path.is_file():
        raise InvalidInput("dataset", str(path), "no such file")
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = DatasetRow.model_validate_json(line)
                calls = sorted((Call.model_validate(call) for call in row.calls), key=lambda call: call.turn)
            except ValidationError as error:
                raise InvalidInput("dataset", f"{path.name}:{number}", str(error.errors()[0])) from error
            rows.append((row, calls))
    return rows


def select(path: Path, config: SftTrain | GrpoTrain, tokens: ChatTokens, context_length: int) -> Selection:
    """The episodes of the dataset at ``path`` for the objective of ``config``.

    Raises:
        InvalidInput: a row cannot be read, or holds tokens that the model does not have.
        OffPolicyRefused: GRPO was given a call without tokens and log-probabilities, or sampled otherwise.
        NoTrainingData: nothing is left for SFT. (GRPO with nothing to learn trains zero steps instead.)
    """
    rows = read_rows(path)
    if isinstance(config, GrpoTrain):
        return _on_policy(rows, config, len(tokens.tokenizer), context_length)
    chosen = Selection([], len(rows))
    for row, calls in rows:
        if config.min_score is not None and row.score < config.min_score:
            chosen.skipped["score below min_score"] += 1
            continue
        sequences = merge([_with_tokens(call, tokens) for call in calls], len(chosen.episodes))
        _keep(chosen, Episode(sequences, group=row.group), context_length)
    if not chosen.episodes:
        raise NoTrainingData(f"none of {len(rows)} rows can be trained on: {dict(chosen.skipped)}")
    _check_vocabulary(chosen.episodes, len(tokens.tokenizer))
    return chosen


def _on_policy(
    rows: list[tuple[DatasetRow, list[Call]]], config: GrpoTrain, vocabulary: int, context_length: int
) -> Selection:
    for row, calls in rows:
        _refuse_off_policy(row, calls, config.temperature)
    advantages = group_normalised([row.score for row, _ in rows], [row.group for row, _ in rows])
    chosen = Selection([], len(rows))
    for (row, calls), advantage in zip(rows, advantages.tolist(), strict=True):
        if advantage == 0.0:
            chosen.skipped["no advantage in its group"] += 1
            continue
        _keep(chosen, Episode(merge(calls, len(chosen.episodes)), advantage, row.group), context_length)
    _check_vocabulary(chosen.episodes, vocabulary)
    return chosen


def _refuse_off_policy(row: DatasetRow, calls: Sequence[Call], temperature: float) -> None:
    for call in calls:
        if not call.has_tokens:
            what = "has no tokens and log-probabilities: another model spoke; train on it with SFT"
        elif call.temperature is not None and abs(call.temperature - temperature) > 1e-6:
            what = f"was sampled at temperature {call.temperature}, not {temperature}; set temperature to match"
        else:
            continue
        raise OffPolicyRefused(f"trajectory {row.trajectory_id}, call {call.call_id} {what}")


def _keep(chosen: Selection, episode: Episode, context_length: int) -> None:
    if not episode.spoken:
        chosen.skipped["nothing was spoken"] += 1
    elif max(len(one.ids) for one in episode.sequences) > context_length:
        chosen.skipped["longer than the context"] += 1
    else:
        chosen.episodes.append(episode)


def _check_vocabulary(episodes: Sequence[Episode], vocabulary: int) -> None:
    highest = max((max(one.ids) for episode in episodes for one in episode.sequences), default=0)
    if highest >= vocabulary:
        raise InvalidInput("token_ids", highest, f"the base has {vocabulary} tokens; these calls are another model's")


def _with_tokens(call: Call, tokens: ChatTokens) -> Call:
    if call.has_tokens:
        return call
    prompt, spoken = tokens.answer(call)
    return call.model_copy(update={"prompt_token_ids": prompt, "token_ids": spoken, "logprobs": [0.0] * len(spoken)})
