"""The trajectory viewer: group beside group of a window, and one trajectory turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from admin.access import Viewer
from admin.pages.conversation import CALLS_A_PAGE, exchanges
from admin.pages.lookup import InPath, Name, PageNumber, line_or_first, sought
from admin.pages.pager import pager
from admin.pages.rendering import page
from db import frozen_groups, trajectory_pages, trajectory_views
from db.frozen_groups import Frozen
from db.session import transaction
from db.trajectory_views import GROUPS_A_PAGE, Group, Page

router = APIRouter()


@router.get("/trajectories")
def listing(
    request: Request,
    caller: Viewer,
    line: Name = "",
    window: Name = "",
    scenario: Name = "",
    page_number: PageNumber = 1,
) -> Response:
    """The groups of a window beside each other."""
    is_line_given = bool(line)
    line, names = line_or_first(line)
    found: Page | None = None
    held: dict[str, list[Frozen]] = {}
    ours: set[str] = set()
    choices: list[str] = []
    scenarios: list[str] = []
    with transaction() as session, sought("window"):
        if line:
            choices = trajectory_views.choices(session, line)
            if not window or (is_line_given and not trajectory_views.has_window(session, line, window)):
                # Another line was chosen in the form, which still names the window of the line before.
                window = choices[0] if choices else ""
        if window:
            scenarios = trajectory_views.scenarios(session, line, window)
            found = trajectory_views.groups(session, line, window, scenario or None, page_number)
            if scenario and not found.groups_of:
                scenario, found = "", trajectory_views.groups(session, line, window, None, page_number)
            held = frozen_groups.holding(session, _ids(found.groups))
            ours = trajectory_views.versions_among(session, _models(found.groups))
    where = {"line": line, "window": window, "scenario": scenario}
    values: dict[str, Any] = {
        "found": found,
        "ours": ours,
        "newest": {name: frozen[-1] for name, frozen in held.items() if frozen},
        "largest": _largest(held),
        "lines": names,
        "windows": choices if window in choices or not window else [window, *choices],
        "scenarios": scenarios if scenario in scenarios or not scenario else [scenario, *scenarios],
        "pager": pager("/trajectories", where, page_number, found.groups_of if found else 0, GROUPS_A_PAGE),
        **where,
    }
    return page(request, "trajectories.html", caller, **values)


@router.get("/trajectories/{trajectory_id:path}")
def one(request: Request, caller: Viewer, trajectory_id: InPath, page_number: PageNumber = 1) -> Response:
    """One trajectory as a conversation, with what became of it and the others of its group."""
    with transaction() as session:
        with sought("trajectory"):
            whole = trajectory_pages.one(session, trajectory_id, page_number, CALLS_A_PAGE)
        group = None if whole.erased_at else trajectory_views.group_of(session, whole)
        held = frozen_groups.holding(session, [trajectory_id, *(_ids([group]) if group else ())])
        ours = trajectory_views.versions_among(session, {*whole.models, *_models([group] if group else ())})
    frozen = held[trajectory_id]
    shown = min(whole.counts.get("calls", 0), trajectory_pages.CALLS)
    values: dict[str, Any] = {
        "whole": whole,
        "group": group,
        "beside": _first(group, trajectory_id),
        "newest": {name: datasets[-1] for name, datasets in held.items() if datasets},
        "largest": _largest(held),
        "frozen": frozen,
        "learned": list(dict.fromkeys(each.version for each in frozen if each.learned == "yes")),
        "perhaps": list(dict.fromkeys(each.version for each in frozen if each.learned == "not known")),
        "reads": _reads(frozen),
        "exchanges": exchanges(whole.calls, page_number),
        "ours": ours,
        "shown": shown,
        "pager": pager(f"/trajectories/{quote(trajectory_id)}", {}, page_number, shown, CALLS_A_PAGE),
    }
    return page(request, "trajectory.html", caller, **values)


def _ids(groups: Sequence[Group]) -> list[str]:
    return [str(member["trajectory_id"]) for group in groups for member in group.members]


def _models(groups: Sequence[Group]) -> set[str]:
    return {str(model) for group in groups for member in group.members for model in member["models"]}


def _reads(frozen: Sequence[Frozen]) -> list[tuple[float, list[str]]]:
    """The weights at which what it was sent is trained on, 0: masked, the greatest first, each with versions.

    They are those of the versions that learned from it or may have; without such the newest dataset's, of no version.
    """
    found: dict[float, list[str]] = {}
    for one in frozen:
        if one.version is not None and one.learned != "no":
            found.setdefault(one.observation_weight, []).append(one.version)
    if not found:
        return [(one.observation_weight, []) for one in frozen[-1:]] or [(0.0, [])]
    return sorted(found.items(), reverse=True)


def _first(group: Group | None, trajectory_id: str) -> list[dict[str, Any]]:
    """The members of the group, the one that is looked at before the others."""
    members = group.members if group else []
    return sorted(members, key=lambda member: member["trajectory_id"] != trajectory_id)


def _largest(held: dict[str, list[Frozen]]) -> float:
    """The greatest size of an advantage that is shown, for the length of bars; 1 where none is."""
    lessons = [frozen[-1].lesson for frozen in held.values() if frozen]
    return max((abs(one.advantage) for one in lessons if one and one.advantage), default=1.0)
