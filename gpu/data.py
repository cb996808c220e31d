"""A frozen dataset as episodes to train on.

Which rows may be trained on depends on the objective. On policy every call must carry the tokens and
log-probabilities of one of our versions at the temperature that is trained at, or the whole dataset is
refused. Anyone may be cloned or compared: calls without tokens are tokenised through the chat template. A row that
cannot be used is left out, counted and named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import compress
from pathlib import Path

from pydantic import ValidationError

from gpu.episodes import Episode
from gpu.rows import Row, Selection, unusable
from gpu.tokens import ChatTokens
from rl.advantages import advantages, group_variance, pooled
from rl.config import OnPolicyTrain, TrainConfig
from rl.errors import InvalidInput, NoTrainingData, OffPolicyRefused
from rl.filtering import fresh, informative
from rl.objective_parts import GroupFilter, Overlong, SoftOverlong, StopProperly
from rl.objectives import Dpo, Grouped, Ppo, ReinforceBaseline, Sft, WeightedSft
from rl.offline import exponential_weights, preferences
from rl.overlong import shaped
from rl.protocol import DatasetRow
from rl.records import Call
from rl.sequences import merge


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
        InvalidInput: a line of the file is no row.
        OffPolicyRefused: an on-policy objective was given a call without tokens and log-probabilities, or sampled
            otherwise.
        NoTrainingData: nothing is left to clone or to compare. (On policy, nothing to learn trains zero steps instead.)
    """
    rows = read_rows(path)
    chosen = Selection([], len(rows))
    if isinstance(config, Sft | WeightedSft | Dpo):
        rows = _usable(chosen, _with_tokens(chosen, rows, tokens), tokens, context_length)
        return _left_to_learn(
            _prefer(chosen, rows, config) if isinstance(config, Dpo) else _clone(chosen, rows, config)
        )
    rows = [(row, chosen.heard(row, calls)) for row, calls in rows]
    for row, calls in rows:
        _refuse_off_policy(row, calls, config.temperature)
    return _reinforce(chosen, _usable(chosen, rows, tokens, context_length), config)


def curated(path: Path, tokens: ChatTokens, context_length: int) -> Selection:
    """The episodes of a second dataset that is cloned beside an objective; scores do not matter.

    Raises:
        InvalidInput: a line of the file is no row.
        NoTrainingData: nothing can be cloned.
    """
    rows = read_rows(path)
    chosen = Selection([], len(rows))
    for row, calls in _usable(chosen, _with_tokens(chosen, rows, tokens), tokens, context_length):
        chosen.episodes.append(_episode(chosen, row, calls))
    return _left_to_learn(chosen)


def _left_to_learn(chosen: Selection) -> Selection:
    if not chosen.episodes:
        raise NoTrainingData(f"none of {chosen.read} rows can be trained on: {dict(chosen.skipped)}")
    return chosen


def _usable(chosen: Selection, rows: list[Row], tokens: ChatTokens, context_length: int) -> list[Row]:
    """The rows that any objective could train on; the others are left out."""
    kept = []
    for row, calls in rows:
        reason = unusable(row, calls, len(tokens.tokenizer), context_length)
        if reason is None:
            kept.append((row, calls))
        else:
            chosen.skip(reason, row)
    return kept


def _clone(chosen: Selection, rows: list[Row], config: Sft | WeightedSft) -> Selection:
    least = config.min_score if isinstance(config, Sft) else None
    for (row, calls), weight in zip(rows, _weights(rows, config), strict=True):
        if least is not None and row.score < least:
            chosen.skip("score below min_score", row)
        else:
            chosen.episodes.append(_episode(chosen, row, calls, weight=weight))
    return chosen


def _weights(rows: list[Row], config: Sft | WeightedSft) -> list[float]:
    """What each trajectory's likelihood is multiplied by."""
    if isinstance(config, Sft):
        return [1.0] * len(rows)
    scores, groups = [row.score for row, _ in rows], [row.group for row, _ in rows]
    weights: list[float] = exponential_weights(scores, groups, config.weight_temperature, config.weight_cap).tolist()
    return weights


def _prefer(chosen: Selection, rows: list[Row], config: Dpo) -> Selection:
    pairs = preferences([row.score for row, _ in rows], [row.group for row, _ in rows], config.min_margin)
    for better, worse in pairs:
        chosen.episodes += [_episode(chosen, *rows[better]), _episode(chosen, *rows[worse])]
    paired = {index for pair in pairs for index in pair}
    for index, (row, _) in enumerate(rows):
        if index not in paired:
            chosen.skip("neither best nor worst of a group that differs", row)
    return chosen


def _reinforce(chosen: Selection, rows: list[Row], config: OnPolicyTrain) -> Selection:
    recent: list[bool] = fresh([row.staleness for row, _ in rows], config.max_staleness).tolist()
    rows = _left(chosen, rows, recent, "max_staleness")
    names = [row.group for row, _ in rows]
    chosen.variance = group_variance([row.score for row, _ in rows], names)
    chosen.warnings += _unsaid(rows, config.overlong)
    rewards = _rewards(rows, config)
    if isinstance(config, Ppo):
        for (row, calls), reward in zip(rows, rewards, strict=True):
            chosen.episodes.append(_episode(chosen, row, calls, reward=reward))
        return chosen
    groups = pooled(names) if config.lone == "pooled" else list[Hashable](names)
    kept = _informative(rows, groups, config.filter)
    rows = _left(chosen, rows, kept, "filter")
    groups, rewards = list(compress(groups, kept)), list(compress(rewards, kept))
    chosen.group_size = min(Counter(groups).values(), default=None)
    gains = _advantages(rows, rewards, groups, config)
    for (row, calls), reward, advantage in zip(rows, rewards, gains, strict=True):
        if advantage == 0.0:
            chosen.skip("no advantage in its group", row)
        else:
            chosen.episodes.append(_episode(chosen, row, calls, advantage=advantage, reward=reward))
    return chosen


LEFT = {
    "filter": "mean score of its group outside filter",
    "max_staleness": "spoken by a version older than max_staleness",
}


def _left(chosen: Selection, rows: list[Row], kept: Sequence[bool], setting: str) -> list[Row]:
    """The rows that a setting keeps; the others are left out."""
    for (row, _), keep in zip(rows, kept, strict=True):
        if not keep:
            chosen.skip(LEFT[setting], row)
    return list(compress(rows, kept))


def _informative(rows: list[Row], groups: list[Hashable], rule: GroupFilter | None) -> list[bool]:
    if rule is None:
        return [True] * len(rows)
    kept: list[bool] = informative([row.score for row, _ in rows], groups, rule.low, rule.high).tolist()
    return kept


def _rewards(rows: list[Row], config: OnPolicyTrain) -> list[float]:
    """Scores under the overlong rule."""
    lengths = [_length(calls) for _, calls in rows] if isinstance(config.overlong, SoftOverlong) else [0] * len(rows)
    cut = [_truncated(calls) for _, calls in rows]
    rewards: list[float] = shaped([row.score for row, _ in rows], lengths, cut, config.overlong).tolist()
    return rewards


def _advantages(rows: list[Row], rewards: list[float], groups: list[Hashable], config: Grouped) -> list[float]:
    """One of each trajectory. Where KL is taken off the reward, whitening comes after that, token by token."""
    spoken = [sum(len(call.token_ids or ()) for call in calls) for _, calls in rows]
    std = config.normalise_std if isinstance(config, ReinforceBaseline) else True
    in_reward = config.kl is not None and config.kl.place == "reward"
    baseline = "centred" if in_reward and config.baseline == "batch_normalised" else config.baseline
    found: list[float] = advantages(baseline, rewards, groups, spoken, std).tolist()
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


def _episode(
    chosen: Selection,
    row: DatasetRow,
    calls: list[Call],
    weight: float = 1.0,
    advantage: float = 0.0,
    reward: float = 0.0,
) -> Episode:
    return Episode(
        merge(calls, len(chosen.episodes)),
        advantage,
        row.group,
        weight,
        reward,
        _truncated(calls),
        row.staleness,
    )


def _with_tokens(chosen: Selection, rows: list[Row], tokens: ChatTokens) -> list[Row]:
    """The rows with tokens made from text where there are none, without calls that say nothing."""
    made = []
    for row, calls in rows:
        try:
            made.append((row, [_tokenised(call, tokens) for call in chosen.heard(row, calls)]))
        except InvalidInput:
            chosen.skip("the chat template refuses its messages", row)
    return made


def _tokenised(call: Call, tokens: ChatTokens) -> Call:
    if call.has_tokens:
        return call
    prompt, spoken = tokens.answer(call)
    return call.model_copy(update={"prompt_token_ids": prompt, "token_ids": spoken, "logprobs": [0.0] * len(spoken)})
