"""The report of ``rlfleet assess`` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from fleet.terminal import console, say
from rl.assess_counts import Range
from rl.assess_report import Report, Rewards

MOST_NAMES = 8
MOST_REASONS = 12


def show(report: Report, source: str) -> None:
    """Print it: what was read, what it is like, what may be trained on it, and what would allow more."""
    say(source)
    facts = Table.grid(padding=(0, 2))
    for name, words in _facts(report):
        facts.add_row(Text(name, style="bold"), Text(words))
    console.print(facts)
    if report.rows.reasons:
        console.print(_quarantined(report))
    console.print(_objectives(report))
    if report.unlock:
        say("To unlock more:")
    for words in report.unlock:
        console.print(Text(f"  * {words}"))
    if not report.trainable:
        say("nothing here can be trained on")


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    rows, time, calls = report.rows, report.time, report.calls
    yield "rows", f"{rows.read:,} read, {rows.trajectories:,} trajectories, {rows.quarantined:,} quarantined"
    yield "consent", _named(report.consent)
    yield "time", f"{time.first} to {time.last}, {len(time.hours)} hours of {time.days} days" if time.hours else "none"
    yield "calls", f"{calls.total:,}; {_range(calls.per_trajectory)} a trajectory"
    yield "turns", f"{_range(calls.turns_per_trajectory)} a trajectory"
    yield "models", _named(calls.by_model)
    yield (
        "with",
        f"log-probabilities {_share(calls.with_logprobs_share)}, tool calls {_share(calls.tool_calls_share)}, "
        f"reasoning {_share(calls.reasoning_share)}",
    )
    yield "our own", f"{calls.own:,} calls, {calls.on_policy_hours} hours wholly"
    if report.archetypes:
        yield "archetypes", _named(report.archetypes)
    yield from _compared(report)
    yield from _sized(report)


def _compared(report: Report) -> Iterator[tuple[str, str]]:
    groups, rewards = report.groups, report.rewards
    sizes = ", ".join(f"{count:,} of {size}" for size, count in list(groups.sizes.items())[:MOST_NAMES])
    yield "groups", f"{groups.count:,} ({sizes or 'none'}), {groups.differing:,} with rewards that differ"
    yield "alone", f"{_share(groups.lone_share)} of trajectories"
    yield "rewards", _earned(rewards)


def _earned(rewards: Rewards) -> str:
    if rewards.mean is None:
        return "none"
    more = " or more" if rewards.distinct >= rewards.distinct_most else ""
    between = f"{rewards.least:g} to {rewards.most:g}, mean {rewards.mean:.4g}, {_share(rewards.zero_share)} are 0"
    missing = f"; {rewards.missing:,} trajectories have none" if rewards.missing else ""
    return f"{rewards.distinct:,}{more} different, {between}{missing}"


def _sized(report: Report) -> Iterator[tuple[str, str]]:
    tokens, day = report.tokens, report.day
    exact = tokens.exact_share or 0.0
    estimate = f"estimated by {tokens.characters_a_token:g} characters a token"
    how = "counted" if exact == 1 else f"{exact:.0%} counted, the rest {estimate}" if exact else estimate
    yield "tokens", f"{tokens.read:,} read, {tokens.spoken:,} spoken ({how})"
    yield (
        "prefixes",
        f"{_share(tokens.prefix_share)} stand there before: {_share(tokens.repeated_share)} in the call before, "
        f"{_share(tokens.group_share)} in the group",
    )
    yield "a day", f"{day.tokens:,} tokens, {day.computed:,} where prefixes are shared"
    if day.seconds is None or day.seconds_unshared is None:
        yield "takes", "unknown: measure what your device does, and give --tokens-per-second"
    else:
        yield "takes", f"{_duration(day.seconds)} a pass ({_duration(day.seconds_unshared)} without sharing)"


def _quarantined(report: Report) -> Table:
    table = Table("rows", "source", "field", "reason", "such as")
    for one in report.rows.reasons[:MOST_REASONS]:
        example = one.examples[0]["row"] if one.examples else ""
        table.add_row(f"{one.count:,}", *(Text(words) for words in (one.source, one.field, one.reason, example)))
    return table


def _objectives(report: Report) -> Table:
    table = Table("objective", "allowed", "why")
    for one in report.objectives:
        table.add_row(one.objective, "yes" if one.allowed else "no", Text(one.reason))
    return table


def _named(counts: Mapping[str, int]) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:MOST_NAMES]]
    more = len(counts) - len(shown)
    return ", ".join(shown + ([f"{more} more"] if more > 0 else [])) or "none"


def _range(found: Range | None) -> str:
    return "none" if found is None else f"{found.mean:.1f} ({found.least} to {found.most})"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return (
        f"{hours} h {rest // 60} min"
        if hours
        else f"{rest // 60} min {rest % 60} s"
        if rest >= 60
        else f"{seconds:.1f} s"
    )
