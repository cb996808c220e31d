"""Who answers the agents of each line, what was before, and a person's word on it: deploy, and roll back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from admin import figures
from admin.access import Operator, Viewer
from admin.acting import acting
from admin.errors import Refused
from admin.pages.forms import Fields, back
from admin.pages.lookup import Name, PageNumber, line_or_first, sought
from admin.pages.pager import pager
from admin.pages.rendering import page
from admin.pages.versions import reason_of
from db import deployments, release_history, release_views, released, rollbacks, version_views
from db.deployments import Strategy
from db.release_history import LineHistory
from db.released import LineReleases
from db.session import transaction

router = APIRouter()
STRATEGIES = ("gradual", "immediate", "test")
WHOLE = 100
NOBODYS = {"killed": "no version: all were taken away", "base": "the base model"}


@dataclass(frozen=True)
class Shares:
    """Who answers a line's agents now, in per cent, with the bar of it."""

    parts: list[tuple[str, int]]
    bar: Markup
    legend: Markup


@router.get("/releases")
def listing(
    request: Request, caller: Viewer, line: Name = "", version: Name = "", page_number: PageNumber = 1
) -> Response:
    """The line's shares now, its canary's last look, its history, and the form to deploy."""
    line, names = line_or_first(line)
    if not line:
        return page(request, "releases.html", caller, line="", lines=names)
    with transaction() as session, sought("line"):
        (history,) = release_history.of_lines(session, line)
        now = released.by_line(session)[line]
        events, count = release_views.history(session, line, page_number)
        known = version_views.names(session, line)
    return page(
        request,
        "releases.html",
        caller,
        line=line,
        lines=names,
        now=now,
        stable=history.live("stable"),
        canary=history.live("canary"),
        history=history,
        shares=shares_of(now),
        events=events,
        pager=pager("/releases", {"line": line}, page_number, count, release_views.A_PAGE),
        known=known,
        chosen=version,
        strategies=STRATEGIES,
    )


def shares_of(now: LineReleases) -> Shares:
    """Who answers, in words and as a bar."""
    parts = [(NOBODYS.get(one.stage) or f"{one.version}, {one.stage}", one.share) for one in now.answering]
    alt = ", ".join(f"{name} {share} %" for name, share in parts)
    bar = figures.stacked_bar([(name, float(share)) for name, share in parts], alt)
    return Shares(parts, bar, figures.legend(f"{name} {share} %" for name, share in parts))


@router.get("/releases/rollback")
def ask(request: Request, caller: Viewer, line: Name = "main") -> Response:
    """What going back would do, for a person to confirm."""
    with transaction() as session, sought("line"):
        (history,) = release_history.of_lines(session, line)
        earlier = release_views.earlier(session, line)
        done = "" if history.live("canary") else release_views.went_back(session, line)
    says = _says(history, earlier)
    return page(request, "rollback.html", caller, line=line, says=says, earlier=earlier, done=done if says else "")


def _says(history: LineHistory, earlier: list[str]) -> str:
    """What happens where no version is named; empty where nothing can."""
    stable, canary = history.live("stable"), history.live("canary")
    if stable is None:
        return ""
    if canary is not None:
        return f"the canary {canary.version} ends and is rejected; {stable.version} stays stable"
    if not earlier:
        return ""
    return f"{earlier[0]} becomes the stable version again; {stable.version} is rejected"


@router.post("/releases/rollback")
def roll_back(caller: Operator, fields: Fields) -> Response:
    """End the canary, or go back; the version that is left is rejected."""
    line, to, reason = _line(fields), fields.get("to") or None, reason_of(fields)
    with acting(caller, "rollback", line, to=to, reason=reason) as session:
        rollbacks.roll_back(session, line, to, reason, caller.actor)
    return back("/releases?" + urlencode({"line": line}))


@router.post("/releases/deploy")
def deploy(caller: Operator, fields: Fields) -> Response:
    """Release a version by hand."""
    line, name, reason = _line(fields), fields.get("version", ""), reason_of(fields)
    strategy = fields.get("strategy") or None
    if strategy is not None and strategy not in STRATEGIES:
        raise Refused(400, f"strategy cannot be {strategy!r:.40}", f"choose one of {', '.join(STRATEGIES)}")
    share = _share(fields.get("share", "").strip())
    unseen = fields.get("unevaluated") == "yes"
    detail = {"strategy": strategy, "share": share, "reason": reason} | ({"unevaluated": True} if unseen else {})
    with acting(caller, "deploy", name, **detail) as session:
        deployments.deploy(
            session,
            name,
            reason,
            caller.actor,
            strategy=cast("Strategy | None", strategy),
            share=share,
            unevaluated=unseen,
        )
    return back("/releases?" + urlencode({"line": line}))


def _line(fields: dict[str, str]) -> str:
    return fields.get("line", "") or "main"


def _share(given: str) -> int | None:
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and int(given[:4]) <= WHOLE):
        raise Refused(400, f"share cannot be {given!r:.40}", "a share is a percentage of agents, 0 to 100")
    return int(given[:4])
