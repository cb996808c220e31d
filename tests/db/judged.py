"""A line, its stable version and a candidate that is better, and the decision about it carried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db import decisions, evaluations, jobs, lines, planning, releases, versions
from db.jobs import Claim
from db.session import transaction
from db.tables import Line
from rl.config import LineConfig, Release, TaskSet
from rl.planner import Want, plan
from tests.db import chains
from tests.db.trained import VALIDATION, add_version, evaluate, release

V0, V1, V2, V3 = (f"babylon-agent-v1.0.{number}" for number in range(4))
HOUR = "2025-01-15T10:00"
Rates = Mapping[tuple[str, int], tuple[int, int]]
"""Of 100 scenarios of each of two types so many are right, by version and step."""
GATE = {"min_probability": 0.7, "margin": 0.0, "min_scenarios": 1}


def line_with(policy: Release) -> Line:
    """A line with that policy, its stable version right on 50 of 100 scenarios."""
    with transaction() as session:
        config = LineConfig(base_model="random-qwen3", validation=VALIDATION, release=policy)
        lines.put(session, "main", config)
        line = lines.named(session, "main")
        stable = add_version(session, line, state="ready")
        evaluate(session, stable, 50, 100)
        release(session, stable)
        return line


def candidate(right: int = 60) -> str:
    """The name of one more candidate, right on the first so many of 100 scenarios."""
    with transaction() as session:
        version = add_version(session, lines.named(session, "main"), HOUR)
        evaluate(session, version, right, 100)
        return version.name


def wanted(kind: str | None = None) -> list[Want]:
    """The jobs that the planner asks for now: those of the kind, or all."""
    with transaction() as session:
        state = planning.line_state(session, lines.named(session, "main"))
    return [one for one in plan(state) if isinstance(one, Want) and kind in (None, one.kind)]


def play(rates: Rates) -> list[tuple[str, int]]:
    """Carry out the evaluations that the planner asks for, until there are none. Returns what was evaluated."""
    played = []
    while wants := wanted("evaluate"):
        for want in wants:
            with transaction() as session:
                version = versions.named(session, want.inputs["version"])[0]
                step = evaluations.asked_for(session, version, want.inputs).step
                first, second = rates[version.name, step]
                counts = {"A": (first, 100), "B": (second, 100)}
                chains.judge(session, version, step, counts, TaskSet.model_validate(want.config))
                played.append((version.name, step))
    return played


def to_decide(name: str | None = None) -> Claim:
    """The claim of the one decision that the planner asks for, about that candidate where one is named."""
    (want,) = [one for one in wanted("decide") if name in (None, one.inputs["candidate"])]
    with transaction() as session:
        job_id = planning.request(session, lines.named(session, "main").id, want)
    claim = jobs.claim(job_id, "a test", 60)
    assert claim is not None
    return claim


def decide(claim: Claim) -> Mapping[str, Any]:
    """Carry the decision out."""
    with transaction() as session:
        return jobs.finish(session, claim, lambda opened: decisions.commit(opened, claim))


def live() -> list[tuple[str, str, int]]:
    """Stage, version and share of the line's releases, the canary first."""
    with transaction() as session:
        return [(one.stage, one.version, one.share) for one in releases.live(session, "main")]
