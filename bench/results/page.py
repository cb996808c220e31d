"""The page of results and its figure, from the reports of pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.pipeline.report import Found, cells

KINDS = {
    "abd": "inputs of programs from their outputs",
    "alfworld": "a household",
    "babyai": "a grid world",
    "ded": "programs from tests",
    "memory": "notes about a user",
    "sat": "satisfiability",
    "sciworld": "science experiments",
    "textcraft": "crafting",
    "trading": "markets",
    "webshop": "shopping",
}
"""What is done in an environment, by the first part of its name."""

STAGES = {"base": "base", "sft": "SFT", "rl": "RL"}

HEAD = """\
# Results

What SFT on oracle episodes brings, and what rounds of RL bring after it, in small environments with a small model. The
same held-out scenarios are played by all three: the model as it is, the version that was cloned from the demonstrations
(SFT), and the version that the run's decision is about (RL). That one is chosen on validation scenarios; of several
that these do not tell apart it is the best on the held-out scenarios themselves. `tied` is how many those were, and in
brackets by how many points the best of so many equal ones seems too good, on average; by less where they fail on the
same scenarios. Counts are scenarios solved, greedily and once each; intervals are 80 % of the posterior with a uniform
prior. `RL above SFT` is yes where RL's interval lies wholly above SFT's; nothing is taken off for the tie.

```
python -m bench.results
```

runs [the pipelines](pipelines.md) of `pipelines/small` one after the other, each with a fleet of its own, and writes
this page and its figure. What is finished is not run again; `--fresh` does, `--only NAME` chooses.
"""


def text(found: Sequence[Found], figure: str) -> str:
    """The page, in Markdown; ``figure`` is the file of the figure, beside it."""
    columns = ("pipeline", "environment", "kind", "base", "SFT", "RL", "RL above SFT", "tied", "rounds", "wall time")
    lines = [f"| {' | '.join(columns)} |", "|---|---|---|--:|--:|--:|---|--:|--:|--:|", *map(_row, found)]
    machines = sorted({_machine(one["machine"]) for one in found})
    gained = sum(bool(one["gains"]["rl"]) for one in found)
    words = f"RL is above SFT in {gained} of {len(found)}. Measured on {'; '.join(machines)}."
    image = f"![Held-out scenarios solved, by stage]({figure})"
    return "\n".join([HEAD, *lines, "", words, "", image, "", *_seconds(found)]) + "\n"


def _row(one: Found) -> str:
    """One pipeline."""
    results = [_counts(one["results"][stage]) for stage in STAGES]
    gain = {True: "yes", False: "no", None: "-"}[one["gains"]["rl"]]
    took = f"{sum(one['seconds'].values()):.0f} s"
    name = f"`{one['pipeline']}`"
    environment = one["environment"]
    cells = [
        name,
        environment,
        kind(environment),
        *results,
        gain,
        _tied(one["results"]["rl"]),
        str(one["rounds"]),
        took,
    ]
    return f"| {' | '.join(cells)} |"


def _tied(result: Mapping[str, Any] | None) -> str:
    """How many there were to choose from on the held-out scenarios, and the points that this may have given."""
    if not result or result.get("tied") is None:
        return "-"
    return f"{result['tied']} ({result['flattery'] * 100:+.1f})" if result["tied"] > 1 else "1"


def kind(environment: str) -> str:
    """What is done there; of a mix, all of it."""
    parts = [part.partition("*")[0] for part in environment.split("+")]
    return ", ".join(dict.fromkeys(KINDS.get(part.split("-")[0], part) for part in parts))


def _counts(result: Mapping[str, Any] | None) -> str:
    count, share, interval = cells(result)
    return f"{count}, {share} ({interval})" if result else "-"


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['cores']} cores, {machine['system']} on {machine['architecture']}, no GPU"


def _seconds(found: Sequence[Found]) -> list[str]:
    """Wall seconds by stage."""
    stages = list(dict.fromkeys(stage for one in found for stage in one["seconds"]))
    lines = [f"| seconds of wall time | {' | '.join(stages)} |", f"|---|{'--:|' * len(stages)}"]
    for one in found:
        numbers = (f"{one['seconds'].get(stage, 0):.0f}" for stage in stages)
        lines.append(f"| {one['pipeline']} | {' | '.join(numbers)} |")
    return lines


def draw(found: Sequence[Found], file: Path) -> None:
    """Three bars a pipeline with their intervals, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 1.6 * len(found) + 2), 4.2), layout="constrained")
    axes = figure.add_subplot()
    for place, (stage, label) in enumerate(STAGES.items()):
        results = [one["results"][stage] for one in found]
        known = [(at, result) for at, result in enumerate(results) if result and result["n"]]
        rates = [one["k"] / one["n"] for _, one in known]
        low = [max(0.0, rate - one["low"]) for rate, (_, one) in zip(rates, known, strict=True)]
        high = [max(0.0, one["high"] - rate) for rate, (_, one) in zip(rates, known, strict=True)]
        spots = [at + 0.27 * (place - 1) for at, _ in known]
        axes.bar(spots, rates, 0.25, yerr=[low, high], capsize=3, color=f"C{place}", label=label)
    axes.set_xticks(range(len(found)), [one["pipeline"] for one in found])
    axes.set(ylabel="held-out scenarios solved", ylim=(0, 1))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_title("Base, SFT and RL on the same held-out scenarios (80 % intervals)", fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=9)
    figure.savefig(file, dpi=144)
