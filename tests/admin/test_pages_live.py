"""In real Chromium a person asks for a training and watches it end, in a real worker with a child without a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

import tasks  # noqa: F401 - registers what is done here
from admin.app import create_app
from admin.settings import AdminSettings
from db import audit
from db.session import transaction
from tests.admin.browser import chromium, tab
from tests.admin.conftest import token
from tests.gateway.doubles import served
from tests.tasks import recipes
from tests.tasks.real_worker import worker
from tests.tasks.rows import job

pytestmark = pytest.mark.slow
STEPS = 60


@pytest.fixture
def scored(fresh: str, broker: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> recipes.World:
    """A line with one scored window, whose training nobody has asked for."""
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    world = recipes.World(tmp_path, STEPS)
    world.run("score", *recipes.score(world))
    with transaction() as session:
        asked = "(select id from rlfleet.jobs where kind = 'train')"
        session.execute(text(f"delete from rlfleet.deliveries where job_id in {asked}"))  # noqa: S608
        session.execute(text(f"delete from rlfleet.job_events where job_id in {asked}"))  # noqa: S608
        session.execute(text("delete from rlfleet.jobs where kind = 'train'"))
    return world


@pytest.fixture
def url(scored: recipes.World) -> Iterator[str]:
    settings = AdminSettings(RLFLEET_ADMIN_RATE="1000", RLFLEET_STATE=str(scored.folder))
    with served(create_app(settings), proxy_headers=False) as address:
        yield address


def test_a_training_is_asked_for_watched_and_ends(url: str, scored: recipes.World) -> None:
    variables = {
        "RLFLEET_ENV": "test",
        "RLFLEET_CHILD": "bench.faults.child",
        "RLFLEET_DEVICE": "cpu",
        "RLFLEET_STEP_SECONDS": "0.1",
        "RLFLEET_JOURNAL": str(scored.folder / "journal"),
    }
    given = token("otto", "operator")
    with worker(scored.folder / "worker.log", "gpu", **variables), chromium() as browser, tab(browser, url) as reader:
        reader.sign_in(given)
        page = reader.page
        page.get_by_role("button", name="Train now").click()
        page.wait_for_url("**/jobs/*")
        number = int(page.url.rpartition("/")[2])
        page.evaluate("document.body.dataset.kept = 'yes'")
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"Job {number}: train")
        expect(page.get_by_role("progressbar")).to_have_attribute("max", str(STEPS), timeout=60_000)
        expect(page.get_by_role("heading", name="Loss", exact=True)).to_be_visible(timeout=60_000)
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        expect(page.get_by_text("It made babylon-agent-v1.0.0.")).to_be_visible(timeout=60_000)
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        assert page.evaluate("document.body.dataset.kept") == "yes", "it was never loaded anew"
        done = job(number)
        assert (done.state, done.attempt, done.result["version"]) == ("succeeded", 1, "babylon-agent-v1.0.0")
        page.goto(f"{url}/")
        expect(page.get_by_role("heading", name="What comes next?")).to_be_visible()
        assert (reader.strangers, reader.complaints) == ([], [])
    with transaction() as session:
        entry = audit.listing(session)[0]
    assert (entry.actor, entry.action, entry.subject, entry.outcome) == ("otto", "train", "main", "done")
    assert entry.detail["force"] is True


def test_a_job_is_put_aside_and_queued_again_from_its_page(url: str) -> None:
    given = token("olga", "operator")
    with chromium() as browser, tab(browser, url) as reader:
        reader.sign_in(given)
        page = reader.page
        page.get_by_role("button", name="Train now").click()
        page.wait_for_url("**/jobs/*")
        number = int(page.url.rpartition("/")[2])
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("button", name="Requeue")).to_be_visible()
        assert job(number).state == "cancelled"
        page.get_by_role("button", name="Requeue").click()
        expect(page.get_by_text("It begins as soon as a worker of queue gpu has room.")).to_be_visible()
        assert job(number).state == "queued"
        assert reader.complaints == []
    with transaction() as session:
        done = [(one.actor, one.action, one.subject) for one in audit.listing(session)]
    assert done == [
        ("olga", "requeue job", str(number)),
        ("olga", "cancel job", str(number)),
        ("olga", "train", "main"),
    ]
