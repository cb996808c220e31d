"""The pages and the API's answers, read by a login that may do what ``rlfleet_viewer`` may, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from fastapi.routing import APIRoute
from starlette.requests import Request

from admin.access import Caller, Guard
from admin.api import ROUTERS
from admin.pages import PAGES
from db.tokens import Holder
from tests.admin.looked import HOUR, V1, Site, site
from tests.conftest_roles import member_of

OTTO = Caller(Holder(1, "otto", "operator", "a test", "", None, None, None), "127.0.0.1", True, "shown")
NAMED = {"line": "main", "trajectory_id:path": "a1", "version": V1, "job_id": "1", "run": "nobody", "window:path": HOUR}
ASKED = {"/api/admin/evaluations": {"version": V1}, "/trajectories": {"line": "main", "window": HOUR}}
PLACES = {"/versions/{name}": V1, "/windows/{name:path}": HOUR, "/runs/{name}": "nobody"}
OTHERWISE = {"/health": 503, "/ready": 503, "/runs/{name}": 404, "/api/admin/runs/{run}": 404}
"""No broker and no engine is there, this login may let nobody in, and no run was made."""
ROUTES = sorted(
    {
        route.path
        for router in (*ROUTERS, *PAGES)
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in route.methods
    }
)


@pytest.fixture(scope="module")
def shown(database: str) -> Iterator[Site]:
    """Who asks is not looked up: that needs hashes, which this login must not read."""
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:

        def otto(self: Guard, request: Request) -> Caller:
            return OTTO

        patch.setattr(Guard, "caller", otto)
        with member_of(database, "rlfleet_viewer"):
            yield made


@pytest.mark.parametrize("route", ROUTES)
def test_everything_that_is_shown_can_be_read(shown: Site, route: str) -> None:
    path = route
    for name, value in (NAMED | {"name": PLACES.get(route, ""), "name:path": PLACES.get(route, "")}).items():
        path = path.replace(f"{{{name}}}", value)
    answer = shown.viewer.get(f"{path}?{urlencode(ASKED.get(route, {}))}")
    assert answer.status_code == OTHERWISE.get(route, 200), answer.text
    assert "permission denied" not in answer.text


def test_what_people_and_agents_said_is_among_it(shown: Site) -> None:
    assert "I say a1" in shown.page("/trajectories/a1").text
