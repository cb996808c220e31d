"""Versions with where each comes from and how it did, and one version with the evidence of its decision."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.errors import Refused
from admin.pages.forms import Fields, back
from admin.pages.lookup import InPath, Name, PageNumber, line_or_first, sought
from admin.pages.pager import pager
from admin.pages.rendering import page
from db import approvals, lineage, rejecting, version_views
from db.session import transaction

router = APIRouter()
TRAJECTORIES = 50
"""So many of what a version learned from are named."""


@router.get("/versions")
def listing(request: Request, caller: Viewer, line: Name = "", page_number: PageNumber = 1) -> Response:
    """The line's versions, the newest first."""
    line, names = line_or_first(line)
    found: list[version_views.Listed] = []
    count = 0
    with transaction() as session, sought("line"):
        if line:
            found, count = version_views.listing(session, line, page_number)
    turned = pager("/versions", {"line": line}, page_number, count, version_views.A_PAGE)
    return page(request, "versions.html", caller, versions=found, count=count, line=line, lines=names, pager=turned)


@router.get("/versions/{name}")
def one(request: Request, caller: Viewer, name: InPath) -> Response:
    """One version: what it was made of, what was decided about it and why, and what its checkpoints did."""
    with transaction() as session, sought("version"):
        found = lineage.explain(session, name, limit=TRAJECTORIES)
        if found.kind != "version":
            raise Refused(404, "there is no such version", f"{name} is a {found.kind}")
        mine, stable = version_views.weighed(session, found.name)
    made = found.versions[0] if found.versions else {}
    own = next((each for each in mine if each.is_own), None)
    waits = any(decision["approval"] == "waiting" for decision in found.decisions) and made["state"] != "rejected"
    values: dict[str, Any] = {
        "found": found,
        "made": made,
        "checkpoints": mine,
        "own": own,
        "stable": stable,
        "pairs": _pairs(own, stable),
        "waits": waits,
        "decisions": found.decisions[::-1],
        "releases": found.releases[::-1],
        "reproduce": f"rlfleet reproduce {found.name} --line {found.line}",
        "deploy": "/releases?" + urlencode({"line": found.line, "version": found.name}) + "#deploy",
    }
    return page(request, "version.html", caller, **values)


def _pairs(own: version_views.Weighed | None, stable: version_views.Weighed | None) -> list[dict[str, Any]]:
    """What the version and the stable one did on the same task set: together, and by type of scenario."""
    rivals = {each.key: each for each in (stable.judged if stable else ())}
    found = []
    for mine in own.judged if own else ():
        theirs = rivals.get(mine.key)
        types = sorted(mine.types.keys() | (theirs.types.keys() if theirs else set()))
        rows = [("all types", mine.count, theirs.count if theirs else None)]
        rows += [(name, mine.types.get(name), theirs.types.get(name) if theirs else None) for name in types]
        found.append({"task_set": mine.task_set, "missing": mine.missing, "rows": rows})
    return found


@router.post("/versions/{name}/approve")
def approve(_: Fields, caller: Operator, name: InPath) -> Response:
    """Say yes to the decision that waits."""
    with acting(caller, "approve", name) as session:
        approvals.approve(session, name, caller.actor)
    return back(f"/versions/{name}")


@router.post("/versions/{name}/refuse")
def refuse(caller: Operator, name: InPath, fields: Fields) -> Response:
    """Say no to it; the version is rejected."""
    reason = reason_of(fields)
    with acting(caller, "refuse", name, reason=reason) as session:
        approvals.refuse(session, name, reason, caller.actor)
    return back(f"/versions/{name}")


@router.post("/versions/{name}/reject")
def reject(caller: Operator, name: InPath, fields: Fields) -> Response:
    """Give a candidate up."""
    reason = reason_of(fields)
    with acting(caller, "reject", name, reason=reason) as session:
        rejecting.reject(session, name, reason, caller.actor)
    return back(f"/versions/{name}")


def reason_of(fields: dict[str, str]) -> str:
    """Why somebody does it.

    Raises:
        Refused: nobody said why.
    """
    reason = fields.get("reason", "").strip()
    if not reason or "\0" in reason:
        raise Refused(400, "reason cannot be empty", "say why, in a few words: it is stored with the change")
    return reason
