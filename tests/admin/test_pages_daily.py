"""The daily pages over HTTP: what they say of a fleet in the middle of its work, and who may do what."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import text

from admin.access import COOKIE
from db.session import transaction
from tests.admin.conftest import signed_in
from tests.admin.shown import Shown, shown

__all__ = ["shown"]


@pytest.fixture(scope="module")
def reader(shown: Shown) -> Iterator[httpx.Client]:
    """An operator's browser."""
    with httpx.Client(
        base_url=shown.url, cookies={COOKIE: signed_in(shown.operator)}, trust_env=False, timeout=30
    ) as client:
        yield client


@pytest.fixture(scope="module")
def onlooker(shown: Shown) -> Iterator[httpx.Client]:
    """A viewer's browser."""
    with httpx.Client(
        base_url=shown.url, cookies={COOKIE: signed_in(shown.viewer)}, trust_env=False, timeout=30
    ) as client:
        yield client


def words(answer: httpx.Response) -> str:
    """What a reader sees of the page, in one line."""
    assert answer.status_code == 200, answer.text
    body = re.sub(r"<svg.*?</svg>", " ", answer.text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_overview_says_whether_it_learns_is_healthy_and_what_is_live(reader: httpx.Client, shown: Shown) -> None:
    said = words(reader.get("/"))
    assert re.search(r"Is it learning\? \d\d\.\d % right on held-out scenarios: babylon-agent-v1\.0\.5; it was", said)
    assert "Is it healthy? 3 to look at" in said
    assert (
        "What is live? babylon-agent-v1.0.4 stable on line main, 100 % of its agents; canary babylon-agent-v1.0.5"
        in said
    )
    assert re.search(r"Worker score-2@\S+ was last heard of 1\d min(?: \d+ s)? ago\. Look at its machine", said)
    assert f"Job {shown.story.dead} (score, line main) is dead: JudgeUnavailable" in said
    assert "The canary babylon-agent-v1.0.5 gets too few rewards to be judged. Log rewards of its agents." in said
    assert f"Job {shown.story.running} trains or is about to." in said
    assert "main babylon-agent-v1.0.4 100 % babylon-agent-v1.0.5 10 % 6" in said
    assert "shop none none 0 2 closed" in said


def test_charts_have_words_for_those_who_do_not_see_them(reader: httpx.Client) -> None:
    labels = re.findall(r'<svg class="chart"[^>]* aria-label="([^"]+)"', reader.get("/").text)
    assert len(labels) == 3
    assert re.match(r"Share right on 200 held_out scenarios of gridworld, 0 to 199: \d\d", labels[0])
    assert re.match(r"Trajectories by hour: \d+ in 48 hours, most in one hour \d+$", labels[1])
    assert labels[2].startswith("Mean reward by hour, from 0.")


def test_a_line_without_anything_has_its_overview(reader: httpx.Client) -> None:
    said = words(reader.get("/", params={"line": "shop"}))
    assert "Is it learning? Not known yet No version of this line has been evaluated." in said
    assert "What is live? No version The base model answers on line shop." in said
    assert "No trajectory came in." in said
    assert "Train now" not in said, "the line does not say how to train"


def test_windows_are_counted_by_state_and_listed_with_reasons(reader: httpx.Client, shown: Shown) -> None:
    said = words(reader.get("/windows"))
    counts = re.findall(r"(\d+) (open|closed|collected|scored|trained|skipped) (?=its|to|waits|a v|nothing)", said)
    assert counts == [
        ("1", "open"),
        ("1", "closed"),
        ("3", "collected"),
        ("29", "scored"),
        ("12", "trained"),
        ("1", "skipped"),
    ]
    assert "nothing to learn from: 3 rows, all quarantined" in said
    trained = words(reader.get("/windows", params={"state": "trained"}))
    assert shown.story.window in trained
    assert shown.story.waiting not in trained
    assert "Only windows that are trained ." in trained


def test_older_windows_are_on_the_next_page(reader: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.pages.windows.PAGE", 20)
    names: list[str] = []
    path = "/windows"
    for _ in range(3):
        page = reader.get(path).text
        names += re.findall(r'<th scope="row" class="nowrap" role="rowheader"><a [^>]*>([^<]+)</a>', page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        path = html.unescape(older[1]) if older else ""
    assert (len(names), len(set(names)), path) == (47, 47, "")
    assert names == sorted(names, reverse=True)


def test_one_window_says_what_it_holds_and_what_became_of_it(reader: httpx.Client, shown: Shown) -> None:
    answer = reader.get(f"/windows/{shown.story.window}")
    said = words(answer)
    assert "trained A version learned from it." in said
    with transaction() as session:
        held = "select count(*), count(distinct scenario_id) from rlfleet.trajectories where trajectory_id like :prefix"
        count, groups = session.execute(text(held), {"prefix": f"{shown.story.window}/%"}).one()
    assert f"Trajectories {count} Groups {groups} scenarios Scored {count} (100 %)" in said
    assert "babylon-agent-v1.0.1 ready" in said
    assert re.search(r"Dataset 2 froze \d+ trajectories in \d+ groups for job 3 \.", said)
    assert f"/trajectories?line=main&amp;window={shown.story.window.replace(':', '%3A')}" in answer.text
    quarantined = words(reader.get(f"/windows/{shown.story.quarantined}"))
    assert re.search(r"\d reward must be a finite number jsonl:///var/log/agents", quarantined)


def test_jobs_are_filtered(reader: httpx.Client, shown: Shown) -> None:
    def found(**filters: str) -> list[int]:
        page = reader.get("/jobs", params=filters).text
        return [int(one) for one in re.findall(r'<th scope="row" role="rowheader"><a href="/jobs/(\d+)">', page)]

    everything = found()
    assert everything == sorted(everything, reverse=True)
    assert found(state="dead") == [shown.story.dead]
    assert found(state="running", kind="train", line="main") == [shown.story.running]
    assert len(found(kind="evaluate")) == 6
    assert found(line="shop") == []
    assert reader.get("/jobs", params={"state": "dying"}).status_code == 422


def test_a_running_training_shows_its_progress_curves_and_log(reader: httpx.Client, shown: Shown) -> None:
    said = words(reader.get(f"/jobs/{shown.story.running}"))
    assert "37 of 60 steps, train" in said
    assert "Time left about 6 min 52 s Loss 0.3713 Mean score 0.5443" in said
    assert "Loss 0.3713 at step 37." in said
    assert "Log of the child of gpu0" in said
    assert "step 37 of 60 loss 0.4713" in said
    fragment = reader.get(f"/jobs/{shown.story.running}/live").text
    assert fragment.lstrip().startswith('<div data-refresh="2"')
    assert 'data-ended="false"' in fragment
    assert 'data-ended="true"' in reader.get(f"/jobs/{shown.story.dead}/live").text


def test_a_job_that_waits_says_what_for(reader: httpx.Client, shown: Shown) -> None:
    said = words(reader.get(f"/jobs/{shown.story.queued}"))
    assert f"queued It begins after job {shown.story.running} ." in said


def test_the_history_of_a_dead_job_has_every_attempt(reader: httpx.Client, shown: Shown) -> None:
    page = reader.get(f"/jobs/{shown.story.dead}").text
    history = page.partition('id="history"')[2]
    states = re.findall(r'<span class="badge \w+">(\w+)</span>', history)
    assert states == ["queued", "running", "queued", "running", "queued", "running", "dead"]
    assert history.count("JudgeUnavailable") == 3


def test_who_may_only_look_has_no_buttons_and_is_refused(onlooker: httpx.Client, shown: Shown) -> None:
    for path in ("/", f"/jobs/{shown.story.dead}"):
        page = onlooker.get(path).text
        assert page.count('<form method="post"') == 1, "signing out"
    answer = onlooker.post("/train", data={"line": "main"})
    assert answer.status_code == 403
    assert "vera is a viewer" in answer.text.lower()
    assert 'href="/windows"' in answer.text, "the menu is there"


def test_a_form_without_its_word_changes_nothing(reader: httpx.Client, shown: Shown) -> None:
    path = f"/jobs/{shown.story.dead}/requeue"
    for fields in ({}, {"word": "guessed"}):
        answer = reader.post(path, data=fields)
        assert answer.status_code == 403
        assert "This form is not from a page of yours" in answer.text
    assert ">dead</span>" in reader.get(f"/jobs/{shown.story.dead}").text


@pytest.mark.parametrize("path", ["/jobs/999999", "/windows/2001-01-01T00:00", "/windows/nonsense"])
def test_what_is_not_there_is_answered_with_a_page(reader: httpx.Client, path: str) -> None:
    answer = reader.get(path)
    assert answer.status_code == 404
    assert "<h1>There is no " in answer.text
    assert "What to do: " in answer.text


def test_no_page_has_script_or_style_of_its_own(reader: httpx.Client, shown: Shown) -> None:
    for path in ("/", "/windows", f"/windows/{shown.story.window}", "/jobs", f"/jobs/{shown.story.running}"):
        page = reader.get(path).text
        assert re.findall(r"<script(?![^>]*src=)|<style| style=| on\w+=", page) == []
        assert re.findall(r'(?:src|href)="(?:https?:)?//', page) == []
        for table in re.findall(r"<table\b.*?</table>", page, re.DOTALL):
            assert "<caption" in table
            assert "<th>" not in table, "each head says what it is the head of"
