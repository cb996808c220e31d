"""What a pipeline came to: the base model, the cloned one and the one after RL on the same held-out scenarios."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from db.overview import Facts, Judged
from rl.intervals import beta_interval
from rl.pipeline import Pipeline
from rl.power import flattery

SCHEMA = 1

Found = dict[str, Any]
"""What ``summary`` returns, and ``report.json`` holds."""


def summary(
    config: Pipeline, facts: Facts | None, base: Mapping[str, Any] | None, seconds: Mapping[str, float]
) -> Found:
    """One object of all that is known so far; what a stage has not come to is None.

    ``done`` says whether the run has ended in a decision. ``gains`` say of SFT and of RL whether the 80 % interval lies
    above that of the stage before. ``tied`` is how many versions were told apart by the held-out scenarios alone, and
    ``flattery`` how much the best of so many equal ones seems too good there, on average; less where they fail alike.
    """
    ended = facts is not None and facts.run_state == "finished"
    decision = (facts.decision if facts and ended else None) or {}
    first = facts.result(f"{config.name}-v1.0.0", config.held_out) if facts else None
    chosen = facts.result(str(decision.get("version")), config.held_out) if facts else None
    results = {"base": dict(base) if base else None, "sft": _judged(first), "rl": _judged(chosen)}
    if results["rl"] is not None:
        results["rl"] |= _tied(decision)
    return {
        "schema": SCHEMA,
        "pipeline": config.name,
        "environment": config.held_out.environment,
        "done": bool(ended and first and chosen and base),
        "results": results,
        "gains": {"sft": _above(results["sft"], results["base"]), "rl": _above(results["rl"], results["sft"])},
        "released": bool(facts and chosen and facts.stable == chosen.version and chosen != first),
        "decision": decision.get("reason"),
        "rounds": len(facts.rounds) if facts else 0,
        "trajectories": facts.trajectories if facts else 0,
        "quarantined": dict(facts.quarantined) if facts else {},
        "jobs": dict(facts.jobs) if facts else {},
        "seconds": dict(seconds),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "config": config.model_dump(mode="json"),
    }


def _judged(one: Judged | None) -> dict[str, Any] | None:
    if one is None:
        return None
    low, high = beta_interval(one.k, one.n)
    return {"version": one.version, "k": one.k, "n": one.n, "low": round(low, 4), "high": round(high, 4)}


def _tied(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Of the versions that the validation scenarios did not tell apart, by their counts on the held-out ones."""
    counts = list(decision.get("evidence", {}).get("selection", {}).get("confirmed", {}).values())
    right, of = sum(k for k, _ in counts), sum(n for _, n in counts)
    if not of:
        return {"tied": None, "flattery": None}
    return {"tied": len(counts), "flattery": round(flattery(of // len(counts), right / of, len(counts)), 4)}


def _above(one: Mapping[str, Any] | None, before: Mapping[str, Any] | None) -> bool | None:
    return None if one is None or before is None else bool(one["low"] > before["high"])


def table(found: Mapping[str, Any]) -> Table:
    """The three on the same held-out scenarios, and how long it took."""
    names = {"base": "base", "sft": "SFT", "rl": "RL"}
    shown = Table(title=f"{found['pipeline']}, held out", title_justify="left")
    for column in ("model", "solved", "share", "80 % interval"):
        shown.add_column(column, justify="left" if column == "model" else "right")
    for stage, words in names.items():
        one = found["results"][stage]
        what = f"{words} ({one.get('version') or one.get('model')})" if one else words
        shown.add_row(*map(Text, [what, *cells(one)]))
    return shown


def cells(one: Mapping[str, Any] | None) -> list[str]:
    """``109/300``, ``36.3%``, ``32.9% to 40.0%``; dashes where nothing is known."""
    if not one or not one["n"]:
        return ["-", "-", "-"]
    return [f"{one['k']}/{one['n']}", f"{one['k'] / one['n']:.1%}", f"{one['low']:.1%} to {one['high']:.1%}"]


def flattered(found: Mapping[str, Any]) -> str:
    """``3 that tied on validation scenarios, and seems up to 1.4 points too good, on average``; empty without a tie."""
    rl = found["results"]["rl"] or {}
    if (rl.get("tied") or 0) < 2:
        return ""
    points = f"{rl['flattery'] * 100:.1f}"
    return f"{rl['tied']} that tied on validation scenarios, and seems up to {points} points too good, on average"


def closing_words(found: Mapping[str, Any]) -> list[str]:
    """What was played, what was decided and among how many, how much was trained on, and the seconds by stage."""
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in found["seconds"].items())
    words = [f"scenarios of {found['environment']}", *([str(found["decision"])] if found["decision"] else [])]
    if said := flattered(found):
        words.append(f"RL is the best of {said}")
    words.append(f"{found['trajectories']} trajectories, {found['rounds']} rounds")
    return [*words, f"{seconds}; together {sum(found['seconds'].values()):.0f} s"]
