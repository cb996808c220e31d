"""A server whose database tells a story, for pages that are looked at in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import text

from admin.app import create_app
from admin.settings import AdminSettings
from db.session import transaction
from tests.admin import story
from tests.admin.conftest import token
from tests.conftest_database import empty
from tests.gateway.doubles import served


@dataclass(frozen=True)
class Shown:
    """Where it is, what is in it, and a token of each role."""

    url: str
    story: story.Story
    operator: str
    viewer: str


def paths(told: story.Story) -> dict[str, str]:
    """Each page by the name of its picture."""
    return {
        "overview": "/",
        "windows": "/windows",
        "window": f"/windows/{told.window}",
        "jobs": "/jobs",
        "job": f"/jobs/{told.running}",
        "job-dead": f"/jobs/{told.dead}",
        "trajectories": f"/trajectories?window={told.window}",
        "versions": "/versions",
        "version": f"/versions/{told.version}",
        "releases": "/releases",
        "rollback": "/releases/rollback?line=main",
        "pin": "/releases/pin?line=main",
        "kill": "/releases/kill?line=main",
        "environments": "/environments",
    }


@pytest.fixture(scope="module")
def shown(database: str, broker: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The story, served; its tests change nothing that another of them looks at."""
    state = tmp_path_factory.mktemp("state")
    with transaction() as session:
        empty(session)
        session.execute(text("truncate rlfleet.tokens, rlfleet.audit restart identity cascade"))
    told = story.tell(state)
    with pytest.MonkeyPatch.context() as patch:
        for field in AdminSettings.model_fields.values():
            patch.delenv(str(field.validation_alias), raising=False)
        settings = AdminSettings(RLFLEET_ADMIN_RATE="1000", RLFLEET_STATE=str(state))
        with served(create_app(settings), proxy_headers=False) as url:
            yield Shown(url, told, token("otto", "operator"), token("vera", "viewer"))
