from __future__ import annotations

import os
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from rich.console import Console

from db import dispatch, job_views, jobs, lines
from db.session import transaction
from fleet.demo import recipe
from fleet.demo.story import Story
from fleet.demo.view import View
from rl.config import LineConfig
from rl.errors import StartError
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import add_version, released


def _story(home: Path, said: StringIO, **environ: str) -> Story:
    given = os.environ | {"RLFLEET_GATEWAY_KEY": ""} | environ
    plan = SimpleNamespace(environ=given, gateway_url="http://127.0.0.1:9", drain_seconds=30.0)
    place = SimpleNamespace(path=home, logs=home / "logs")
    fleet: Any = SimpleNamespace(home=place, plan=plan, poll=lambda: None, wait_for_engine=lambda: None)
    return Story(fleet, 3, recipe.QUICK, "demo-3", 1, View(Console(file=said, width=200), recipe.QUICK))


def _failed(line: str) -> int:
    with transaction() as session:
        lines.put(session, line, LineConfig(base_model="/srv/models/base"))
        spec = dispatch.Spec("score", lines.named(session, line).id, {"window": "2025-01-15T10:00"}, {}, "score")
        job_id = dispatch.request(session, spec)
    claim = jobs.claim(job_id, "a test", 60)
    assert claim is not None
    jobs.fail(claim, "no luck", retry=False)
    return job_id


def _state(job_id: int) -> str:
    found = job_views.summary(job_id)
    assert found is not None
    return found.state


@pytest.mark.usefixtures("database")
def test_a_resumed_demo_tries_its_own_broken_jobs_again(tmp_path: Path) -> None:
    said = StringIO()
    story = _story(tmp_path, said)
    mine, other = _failed("demo-3"), _failed("demo-4")
    with pytest.raises(StartError, match=r"no luck.*`make demo` again tries it again, `make demo FRESH=1` starts anew"):
        story.course.until(lambda facts: False)
    story.course.try_again()
    assert (_state(mine), _state(other)) == ("queued", "failed")
    assert f"tried again: job {mine} score demo-3 2025-01-15T10:00: failed (no luck)" in said.getvalue()


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("key", "header"), [("", None), ("one", "Bearer one")])
def test_the_gateway_is_asked_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, header: str | None
) -> None:
    story = _story(tmp_path, StringIO(), RLFLEET_GATEWAY_KEY=key)
    with transaction() as session:
        lines.put(session, story.name, LineConfig(base_model="/srv/models/base"))
    seen: list[httpx.Request] = []

    def post(url: str, *, json: object, headers: dict[str, str], **_: object) -> httpx.Response:
        seen.append(httpx.Request("POST", url, json=json, headers=headers))
        return httpx.Response(200, headers={"X-Rlfleet-Version": "v"})

    monkeypatch.setattr(httpx, "post", post)
    assert story._ask().gateway_version == "v"
    assert [request.headers.get("Authorization") for request in seen] == [header]


@pytest.mark.usefixtures("database")
def test_a_gateway_that_heeds_the_release_in_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = _story(tmp_path, StringIO())
    with transaction() as session:
        line = lines.put(session, story.name, LineConfig(base_model="/srv/models/base"))
        version = add_version(session, lines.named(session, story.name), "ready")
        released(session, line, version.id, 100)
    stale = [httpx.Response(503), httpx.Response(200, headers={"X-Rlfleet-Version": "base"})]
    answers = iter([*stale, httpx.Response(200, headers={"X-Rlfleet-Version": version.name})])
    monkeypatch.setattr(httpx, "post", lambda *_, **__: next(answers))

    assert story._ask().gateway_version == version.name
    assert list(answers) == []


@pytest.mark.usefixtures("database")
def test_a_gateway_that_never_heeds_it_is_not_asked_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = _story(tmp_path, StringIO())
    with transaction() as session:
        line = lines.put(session, story.name, LineConfig(base_model="/srv/models/base"))
        released(session, line, add_version(session, lines.named(session, story.name), "ready").id, 100)
    monkeypatch.setattr("fleet.demo.story.HEEDED_SECONDS", 0.0)
    monkeypatch.setattr(httpx, "post", lambda *_, **__: httpx.Response(503))

    assert story._ask().gateway_version is None


def test_the_demos_files_are_private(tmp_path: Path) -> None:
    story = _story(tmp_path, StringIO())
    story._logs()
    modes = {path: path.stat().st_mode & 0o777 for path in (story.folder.parent, story.folder, story.logs)}
    assert list(modes.values()) == [0o700, 0o700, 0o600]
