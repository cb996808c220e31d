"""``rlfleet lint-reward``: whether an environment's reward pays for solving early, and not for stalling."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.terminal import AsJson, errors, say

if TYPE_CHECKING:
    from rl.reward_lint import Name, Sampled, Status, Tested

PUBLISHED = "published"

RULES: dict[Name, str] = {
    "short": "right and short is worth at least as much as right and long",
    "right": "right is worth more than wrong",
    "silent": "right is worth more than no answer",
    "answer": "wrong is worth at least as much as no answer",
}
STATUS: dict[Status, str] = {"holds": "holds", "broken": "broken", "untested": "untested", "inapplicable": "-"}
BY_REWARD = "the environment tells right from wrong by the reward alone"


def lint_reward(
    environment: Annotated[
        str, typer.Argument(help=f"its name, or `{PUBLISHED}`: the shaping of a published run, which pays for stalling")
    ],
    scenarios: Annotated[
        int | None, typer.Option(min=1, help="so many held-out scenarios; by default 20, or 2 where they take minutes")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play scenarios right, late, wrong and in silence, and compare the rewards of each scenario's episodes.

    Right is what the state of the scenario shows to be solved. Where an environment tells it by the rewards alone, a
    pair of right and wrong shows nothing: the rule holds by construction, and is marked so. This is a sample, not a
    proof.

    Exit code 1 where a rule is broken, or untested because no pair of episodes was there to compare.
    """
    from rl.reward_lint import lint

    sampled = _sampled(environment, scenarios)
    tested = lint(sampled)
    if as_json:
        typer.echo(json.dumps(_report(environment, sampled, tested)))
    else:
        _show(environment, sampled, tested)
    raise typer.Exit(0 if all(one.passed for one in tested) else 1)


def _sampled(name: str, scenarios: int | None) -> list[Sampled]:
    if name == PUBLISHED:
        from rl import published_shaping

        return published_shaping.samples()
    from rich.progress import track

    import environments
    from environments.sampling import enough, samples
    from rl.records import ScenarioRef

    environment = environments.load(name)
    count = scenarios or enough(environment)
    count = min(count, environment.scenarios("held_out") or count)
    refs = [ScenarioRef(environment=name, split="held_out", seed=seed) for seed in range(count)]
    return [one for ref in track(refs, name, console=errors, transient=True) for one in samples(environment, ref)]


def _report(name: str, sampled: list[Sampled], tested: list[Tested]) -> dict[str, object]:
    return {
        "schema": 1,
        "environment": name,
        "passed": all(one.passed for one in tested),
        "scenarios": len({one.scenario for one in sampled}),
        "episodes": len(sampled),
        "rules": [{**one.model_dump(exclude={"fault"}), "words": RULES[one.rule]} for one in tested],
        "faults": [{**one.fault.model_dump(), "words": one.fault.words()} for one in tested if one.fault is not None],
    }


def _show(name: str, sampled: list[Sampled], tested: list[Tested]) -> None:
    kinds = {kind: sum(one.kind == kind for one in sampled) for kind in ("right", "wrong", "silent")}
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    played = len({one.scenario for one in sampled})
    say(f"{name}: {len(sampled)} episodes ({counts}) of {played} scenario{'' if played == 1 else 's'}")
    for one in tested:
        say(f"  {STATUS[one.status]:8}  {RULES[one.rule]} ({_pairs(one.pairs)})")
        for remark in _remarks(one, played):
            say(f"            {remark}")


def _remarks(one: Tested, played: int) -> list[str]:
    """What else is to be said of a rule: its worst pair, what it cannot show, or what to do."""
    if one.fault is not None:
        return [f"{one.fault.pairs} of them: {one.fault.words()}"]
    if one.status == "untested":
        return [f"no such two episodes of one scenario: play more, such as --scenarios {max(40, 2 * played)}"]
    if one.status == "inapplicable":
        return ["all episodes have the same number of turns: none is shorter"]
    return [f"{one.by_construction} of them by construction: {BY_REWARD}"] if one.by_construction else []


def _pairs(count: int) -> str:
    return f"{count} pair{'' if count == 1 else 's'}"
