"""Runs: how far each has come, what is the best so far, what it waits for, and a person's word on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from admin import figures
from admin.access import Caller, Operator, Viewer
from admin.acting import acting
from admin.pages.formats import percent
from admin.pages.forms import Fields, back
from admin.pages.lookup import InPath, sought
from admin.pages.rendering import page
from db import lines, run_views, runs
from db.session import transaction
from rl.report import Count
from tasks import ring

router = APIRouter()
PAGE = 30


@router.get("/runs")
def listing(
    request: Request, caller: Viewer, before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None
) -> Response:
    """The newest runs first, 30 on a page."""
    with transaction() as session:
        found = run_views.listing(session, PAGE + 1, before)
    return page(
        request,
        "runs.html",
        caller,
        runs=found[:PAGE],
        newest="/runs" if before else "",
        older=f"/runs?before={found[PAGE - 1]['id']}" if len(found) > PAGE else "",
    )


@router.get("/runs/{name}")
def one(request: Request, caller: Viewer, name: InPath) -> Response:
    """One run: rounds, versions with held-out verdicts, the tie set, alarms, and what it waits for."""
    with transaction() as session, sought("run"):
        run = lines.run_named(session, name)
        rounds = run_views.rounds(session, run.id)
        told = runs.told(session, run) if run.base_version_id is not None else None
        about = {"name": run.name, "state": run.state, "reason": run.reason, "config": run.config}
    versions = _counted(told["versions"] if told else [])
    values: dict[str, Any] = {
        "run": about,
        "told": told,
        "rounds": rounds,
        "versions": versions,
        "chart": _chart(versions),
        "legend": figures.legend(["right on the validation scenarios, with its 80 % interval", "training score"]),
    }
    return page(request, "run.html", caller, **values)


def _counted(versions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the counts as k of n and an interval; None where a version was not judged."""
    return [
        one | {"count": Count.of(*one["counts"]) if one["counts"] and one["counts"][1] else None} for one in versions
    ]


def _chart(versions: Sequence[dict[str, Any]]) -> Markup:
    counts = [one["count"] for one in versions]
    labels = [str(one["version"]).rpartition("-")[2] for one in versions]
    right = figures.Series(
        "right", [one.rate if one else None for one in counts], [(one.low, one.high) if one else None for one in counts]
    )
    series = [right, figures.Series("training score", [one["training_score"] for one in versions])]
    alt = "; ".join(
        f"{label} {one.k} of {one.n} right, {percent(one.low)} to {percent(one.high)}" if one else f"{label} not judged"
        for label, one in zip(labels, counts, strict=True)
    )
    return figures.line_chart(series, labels, alt, floor_at=0.0, ceiling=1.0, whiskers=True)


@router.post("/runs/{name}/resume")
def resume(_: Fields, caller: Operator, name: InPath) -> Response:
    """Have a paused run play further rounds."""
    return _change(name, caller, "resume run", runs.resume)


@router.post("/runs/{name}/finish")
def finish(_: Fields, caller: Operator, name: InPath) -> Response:
    """Have a run decide on what it has."""
    return _change(name, caller, "finish run", runs.finish)


def _change(name: str, caller: Caller, action: str, change: Callable[..., str]) -> Response:
    with acting(caller, action, name) as session:
        line = change(session, name)
    ring.advance_or_later(line)
    return back(f"/runs/{name}")
