"""A frozen dataset as episodes to train on.

Which rows may be trained on depends on the objective. On policy every call must carry the tokens and
log-probabilities of one of our versions at the temperature that is trained at, or the whole dataset is
refused. Anyone may be cloned: calls without tokens are tokenised through the chat template.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

from pydantic import ValidationError

from gpu.tokens import ChatTokens
from rl.advantages import advantages, pooled
from rl.config import OnPolicyTrain, SftTrain, TrainConfig
from rl.errors import InvalidInput, NoTrainingData, OffPolicyRefused
from rl.filtering import informative
from rl.objective_parts import GroupFilter, Overlong, SoftOverlong, StopProperly
from rl.objectives import Cloning, ReinforceBaseline, WeightedSft
from rl.offline import exponential_weights
from rl.overlong import shaped
from rl.protocol import DatasetRow
from rl.records import Call
from rl.records import Sequence as TokenSequence
from rl.sequences import merge

Row = tuple[DatasetRow, list[Call]]


@dataclass(frozen=True)
class Episode:
    """One trajectory as token sequences, with the advantage of all its tokens (0 where it is cloned).

    ``group`` names the trajectories that it most likely begins like. ``weight`` multiplies a cloned one's likelihood.
    """

    sequences: list[TokenSequence]
    advantage: float = 0.0
    group: str = ""
    weight: float = 1.0

    @property
    def spoken(self) -> int:
        """How many tokens the policy spoke."""
        return sum(sum(one.mask) for one in self.sequences)

    @property
    def length(self) -> int:
        return sum(len(one.ids) for one in self.sequences)


@dataclass
class Selection:
    """The episodes of a dataset that can be trained on, and why the other rows were left out.

    ``group_size`` counts the smallest group that advantages were made in, None where there is none.
    """

    episodes: list[Episode]
    read: int
    skipped: Counter[str] = field(default_factory=Counter)
    group_size: int | None = None
    warnings: list[str] = field(default_factory=list)


def read_rows(path: Path) -> list[Row]:
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


def select(path: Path, config: TrainConfig, tokens: ChatTokens, context_length: int) -> Selection:
    """The episodes of the dataset at ``path`` for the objective of ``config``.

    Raises:
        InvalidInput: a row cannot be read, or holds tokens that the model does not have.
        OffPolicyRefused: an on-policy objective was given a call without tokens and log-probabilities, or sampled
            otherwise.
        NoTrainingData: nothing is left to clone. (On policy, nothing to learn trains zero steps instead.)
    """
    rows = read_rows(path)
    chosen = Selection([], len(rows))
    if isinstance(config, Cloning):
        _clone(chosen, rows, config, tokens, context_length)
    else:
        _reinforce(chosen, rows, config, context_length)
    _check_vocabulary(chosen.episodes, len(tokens.tokenizer))
    return chosen


def _clone(
    chosen: Selection, rows: list[Row], config: SftTrain | WeightedSft, tokens: ChatTokens, context_length: int
) -> None:
    least = config.min_score if isinstance(config, SftTrain) else None
    for (row, calls), weight in zip(rows, _weights(rows, config), strict=True):
        if least is not None and row.score < least:
            chosen.skipped["score below min_score"] += 1
            continue
        sequences = merge([_with_tokens(call, tokens) for call in calls], len(chosen.episodes))
        _keep(chosen, Episode(sequences, group=row.group, weight=weight), context_length)
    if not chosen.episodes:
        raise NoTrainingData(f"none of {len(rows)} rows can be trained on: {dict(chosen.skipped)}")


def _weights(rows: list[Row], config: SftTrain | WeightedSft) -> list[float]:
    """What each trajectory's likelihood is multiplied by."""
    if isinstance(config, SftTrain):
        return [1.0] * len(rows)
    scores, groups = [row.score for row, _ in rows], [row.group for row, _ in rows]
    weights: list[float] = exponential_weights(scores, groups, config.weight_temperature, config.weight_cap).tolist()
    return weights


def _reinforce(chosen: Selection, rows: list[Row], config: OnPolicyTrain, context_length: int) -> None:
    for row, calls in rows:
        _refuse_off_policy(row, calls, config.temperature)
    names = [row.group for row, _ in rows]
    groups = pooled(names) if config.lone == "pooled" else list[Hashable](names)
    kept = _informative(rows, groups, config.filter)
    rows, groups = list(compress(rows, kept)), list(compress(groups, kept))
    if len(rows) < chosen.read:
        chosen.skipped["mean score of its group outside filter"] = chosen.read - len(rows)
    chosen.group_size = min(Counter(groups).values(), default=None)
    chosen.warnings += _unsaid(rows, config.overlong)
    for (row, calls), advantage in zip(rows, _advantages(rows, groups, config), strict=True):
        if advantage == 0.0:
            chosen.skipped["no advantage in its group"] += 1
            continue
        _keep(chosen, Episode(merge(calls, len(chosen.episodes)), advantage, row.group), context_length)


def _informative(rows: list[Row], groups: list[Hashable], rule: GroupFilter | None) -> list[bool]:
    if rule is None:
        return [True] * len(rows)
    kept: list[bool] = informative([row.score for row, _ in rows], groups, rule.low, rule.high).tolist()
    return kept


def _advantages(rows: list[Row], groups: list[Hashable], config: OnPolicyTrain) -> list[float]:
    """One of each trajectory, from its score under the overlong rule."""
    lengths = [_length(calls) for _, calls in rows] if isinstance(config.overlong, SoftOverlong) else [0] * len(rows)
    rewards = shaped([row.score for row, _ in rows], lengths, [_truncated(calls) for _, calls in rows], config.overlong)
    spoken = [sum(len(call.token_ids or ()) for call in calls) for _, calls in rows]
    std = config.normalise_std if isinstance(config, ReinforceBaseline) else True
    found: list[float] = advantages(config.baseline, rewards, groups, spoken, std).tolist()
    return found


def _length(calls: Sequence[Call]) -> int:
    """Tokens from the first spoken to the last, over the trajectory's sequences."""
    return sum(len(one.mask) - one.mask.index(1) for one in merge(calls, 0))


def _truncated(calls: Sequence[Call]) -> bool:
    return any(call.finish_reason == "length" for call in calls)


def _unsaid(rows: list[Row], rule: Overlong | None) -> list[str]:
    """A sentence if the rule needs to know why calls ended, and some do not say."""
    unsaid = sum(any(call.finish_reason is None for call in calls) for _, calls in rows)
    if not (isinstance(rule, StopProperly) and unsaid):
        return []
    return [f"overlong.rule = stop_properly: calls of {unsaid} trajectories say no finish_reason and count as finished"]


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
