"""A line, its stable version and a candidate that is better, and the decision about it carried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db import decisions, jobs, lines, planning, releases
from db.jobs import Claim
from db.session import transaction
from db.tables import Line
from rl.config import LineConfig, Release
from rl.planner import Want, plan
from tests.db.trained import VALIDATION, add_version, evaluate, release

V0, V1, V2, V3 = (f"babylon-agent-v1.0.{number}" for number in range(4))
HOUR = "2025-01-15T10:00"
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


def to_decide(name: str) -> Claim:
    """The claim of the decision about that candidate, which the planner asks for."""
    with transaction() as session:
        line = lines.named(session, "main")
        wants = [one for one in plan(planning.line_state(session, line)) if isinstance(one, Want)]
        (want,) = [one for one in wants if one.kind == "decide" and one.inputs["candidate"] == name]
        job_id = planning.request(session, line.id, want)
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
