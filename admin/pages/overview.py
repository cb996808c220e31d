"""Is it learning, is it healthy, what is live?"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from markupsafe import Markup
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from admin import figures
from admin.access import Caller, Operator, Viewer
from admin.api import training
from admin.errors import refused_of
from admin.pages import concerns
from admin.pages.formats import percent
from admin.pages.forms import Fields, back
from admin.pages.lookup import Name, line_or_first, sought
from admin.pages.rendering import page
from admin.pages.windows import STATES
from db import alerts, approvals, automation, job_views, lines, pauses, queues, status, trends, wanted, workers
from db.session import transaction
from rl.config import TaskSet
from rl.held_out import LOGGED, LoggedSet
from rl.report_chain import described

router = APIRouter()


@router.get("/")
def overview(request: Request, caller: Viewer, line: Name = "") -> Response:
    """One line's learning, the fleet's health, and what every line serves."""
    known = status.lines()
    chosen = line_or_first(line)[0]
    learning = _learning(chosen) if chosen else None
    values: dict[str, Any] = {"lines": known, "line": chosen, "learning": learning, "window_states": list(STATES)}
    return page(request, "overview.html", caller, health=_health(), **values)


@router.post("/train")
def train(fields: Fields, caller: Operator) -> Response:
    """Ask for a version of what waits, as the API's trigger does; then to the job."""
    return back(f"/jobs/{_trigger(caller, fields)}")


def _trigger(caller: Caller, fields: dict[str, str]) -> str:
    body = training.Trigger(force=fields.get("force") == "yes")
    return training.trigger(body, caller, fields.get("line", "main")).jobId


def _learning(line: str) -> dict[str, Any]:
    """Numbers of the line, the charts, and the readiness."""
    with transaction() as session:
        with sought("line"):
            row = lines.named(session, line)
        hours = trends.hours(session, row.id)
        sets = trends.judged(session, row.id)
        found, trains, problem = None, False, ""
        try:
            trains = lines.config_of(row).train is not None
            found = automation.status(session, line)
        except ValidationError as error:
            problem = refused_of(error).detail
    return {
        "status": found,
        "problem": problem,
        "trains": trains,
        "hours": _by_hour(hours),
        "judged": [_judged(one) for one in sets],
    }


def _by_hour(hours: list[trends.Hour]) -> dict[str, Any]:
    labels = [one.at.strftime("%d %b %H:%M") for one in hours]
    total, rewarded = sum(one.trajectories for one in hours), sum(one.rewarded for one in hours)
    rewards = [one.reward for one in hours]
    seen = [one for one in rewards if one is not None]
    counts = [one.trajectories for one in hours]
    busiest = f"Trajectories by hour: {total} in {len(hours)} hours, most in one hour {max(counts)}"
    return {
        "total": total,
        "count": len(hours),
        "mean": sum(one.rewarded * one.reward for one in hours if one.reward is not None) / rewarded
        if rewarded
        else None,
        "trajectories": figures.bar_chart(counts, labels, busiest),
        "rewards": figures.line_chart(
            [figures.Series("mean reward", rewards)],
            labels,
            f"Mean reward by hour, from {seen[0]:.3g} to {seen[-1]:.3g}" if seen else "",
        ),
    }


def _judged(one: trends.Judged) -> dict[str, Any]:
    known = [(name, count) for name, count in zip(one.versions, one.counts, strict=True) if count]
    short = [name.rpartition("-")[2] for name in one.versions]
    first, last = known[0], known[-1]
    task_set = _task_set(one.task_set)
    what, measure = described(task_set), measured(task_set)
    alt = (
        f"Share {measure} on {what}: {percent(first[1].k / first[1].n)} of {first[0]}, "
        f"{percent(last[1].k / last[1].n)} of {last[0]}"
    )
    series = figures.Series(
        measure,
        [count.k / count.n if count else None for count in one.counts],
        [(count.low, count.high) if count else None for count in one.counts],
    )
    chart: Markup = figures.line_chart([series], short, alt, whiskers=True, shown=lambda share: f"{100 * share:.3g} %")
    split = task_set.split.replace("_", "-")
    return {"what": what, "measure": measure, "split": split, "chart": chart, "rows": list(reversed(known))}


def measured(task_set: TaskSet | LoggedSet) -> str:
    """What a success on the set is: of answers that are compared with others it is a win, a tie half of one."""
    against = getattr(task_set, "against", "")
    return f"better than {'the logs' if against == LOGGED else against}" if against else "right"


def _task_set(given: dict[str, Any]) -> TaskSet | LoggedSet:
    return TaskSet.model_validate(given) if "environment" in given else LoggedSet.model_validate(given)


def _health() -> dict[str, Any]:
    """Jobs by state, who works, and what is not well."""
    counts, present = job_views.counts(), workers.listing()
    with transaction() as session:
        known = queues.listing(session)
        candidates = wanted.candidates(session)
        asked = approvals.waiting(session)
    ended = [*job_views.listing("dead", concerns.SHOWN), *job_views.listing("failed", concerns.SHOWN)]
    found = [
        *concerns.of_pauses(pauses.paused()),
        *concerns.of_workers(present, known),
        *concerns.of_jobs(ended, counts),
        *concerns.of_candidates(candidates),
        *concerns.of_approvals(asked),
        *concerns.of_alerts(alerts.lately(concerns.ALERT_SECONDS)),
    ]
    return {"jobs": counts, "workers": present, "queues": known, "concerns": found}
