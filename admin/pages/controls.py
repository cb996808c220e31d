"""A person's word on a line's traffic that outranks its releases: a pin, and the kill switch. Each asks first."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.errors import Refused
from admin.pages.forms import Fields, back
from admin.pages.lookup import Name, sought
from admin.pages.rendering import page
from admin.pages.versions import reason_of
from db import controls, lines, released, version_views, versions
from db.session import transaction

router = APIRouter(prefix="/releases")
SWITCH = {"yes": True, "no": False}


@router.get("/pin")
def ask_pin(request: Request, caller: Viewer, line: Name = "main") -> Response:
    """Which version is pinned, and which could be."""
    with transaction() as session, sought("line"):
        known = version_views.names(session, line)
        pinned = released.by_line(session)[line].pinned
    ready = [name for name, state in known if state == "ready" and not (pinned and pinned.name == name)]
    return page(request, "pin.html", caller, line=line, pinned=pinned, ready=ready)


@router.post("/pin")
def pin(caller: Operator, fields: Fields) -> Response:
    """Let one version answer all agents of the line; without one, take the pin away."""
    line, name, reason = fields.get("line", ""), fields.get("version") or None, reason_of(fields)
    with acting(caller, "pin", line, version=name, reason=reason) as session:
        line_id = lines.named(session, line).id
        version_id = versions.named(session, name)[0].id if name else None
        controls.pin(session, line_id, version_id, reason, caller.actor)
    return back("/releases?" + urlencode({"line": line}))


@router.get("/kill")
def ask_kill(request: Request, caller: Viewer, line: Name = "main") -> Response:
    """What the switch would do, for a person to confirm."""
    with transaction() as session, sought("line"):
        lines.named(session, line)
        killed = released.by_line(session)[line].killed
    return page(request, "kill.html", caller, line=line, killed=killed)


@router.post("/kill")
def kill(caller: Operator, fields: Fields) -> Response:
    """Take all versions of the line away from its agents, or give them back."""
    line, given, reason = fields.get("line", ""), fields.get("on", ""), reason_of(fields)
    if given not in SWITCH:
        raise Refused(400, f"on cannot be {given!r:.40}", f"choose one of {', '.join(SWITCH)}")
    on = SWITCH[given]
    with acting(caller, "kill" if on else "kill off", line, reason=reason) as session:
        controls.kill(session, lines.named(session, line).id, on, reason, caller.actor)
    return back("/releases?" + urlencode({"line": line}))
