"""Lists and pages that show a part of what there is: they say so, and where the rest is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from admin.pages import runs as runs_page
from db import lineage, lines, trajectories, trajectory_views, versions, windows
from db.session import transaction
from rl.records import Quarantined
from rl.windows import parse
from tests.admin.looked import HOUR, V1, Site, add_window, episode, site
from tests.admin.world import Api
from tests.db.trained import add_line, add_version, run_config


@pytest.fixture
def shown(database: str, broker: object) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:
        yield made


def test_runs_are_paged(shown: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_page, "PAGE", 2)
    with transaction() as session:
        line, base = lines.named(session, "main"), versions.named(session, V1)[0]
        for place in range(5):
            lines.start_run(session, line.id, run_config(name=f"r{place}"), base.id)
    seen: list[str] = []
    path = "/runs"
    while path:
        found = shown.page(path)
        seen += [row[0] for row in found.rows[1:]]
        path = next((one for one in found.hrefs() if one.startswith("/runs?before=")), "")
    assert seen == ["r4", "r3", "r2", "r1", "r0"]
    assert found.count("a", rel="prev", href="/runs") == 1
    assert "There is no older run" in shown.page("/runs?before=1").text
    assert shown.viewer.get("/runs?before=0").status_code == 422


def test_a_long_trajectory_says_how_many_of_its_calls_can_be_looked_at(shown: Site) -> None:
    first = episode("q1", turns=1)
    many = [first.calls[0].model_copy(update={"turn": n, "call_id": f"q-{n}"}) for n in range(215)]
    with transaction() as session:
        add_window(
            session, lines.named(session, "main"), "2025-01-15T12:00", [first.model_copy(update={"calls": many})]
        )
    found = shown.page("/trajectories/q1?page=20")
    assert "Calls 215" in found.text
    assert "Tokens 645 of prompts + 430 of answers" in found.text
    assert "The first 200 calls can be looked at here; 15 more are stored." in found.text
    assert "Page 20 of 20" in found.text
    assert "call c-q1" not in found.text
    assert "Turn 190" in found.text
    assert "Turn 199" in found.text
    assert "No call of it is stored" in shown.page("/trajectories/q1?page=21").text
    assert "can be looked at here" not in shown.page("/trajectories/a1").text


def test_kinds_of_quarantined_rows_are_counted_where_they_are_cut(shown: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MOST", 2)
    monkeypatch.setattr(trajectory_views, "KINDS", 2)
    with transaction() as session:
        line = lines.named(session, "main")
        window = windows.named(session, line.id, HOUR).id
        bad = [Quarantined(source="g", row=str(n), field="reward", reason=f"no {n}") for n in range(3)]
        trajectories.insert_quarantine(session, line.id, window, bad)
    found = shown.page(f"/windows/{HOUR}").text
    assert "with one of each, the most frequent first; 2 of 4 are shown" in found
    assert "Quarantined 5 rows" in found
    assert "The 2 most frequent of 4 kinds." in shown.page(f"/trajectories?window={HOUR}").text
    answer = shown.viewer.get(f"/api/admin/windows/{HOUR}").json()
    assert answer["counts"] == {"windows": 1, "datasets": 1, "quarantined": 5, "quarantined_kinds": 4}
    assert [one["count"] for one in answer["quarantined_rows"]] == [2, 1]


def test_jobs_of_a_window_and_windows_of_a_version_are_counted_where_they_are_cut(
    shown: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        session.execute(
            text("""
                insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config)
                select 'score', 1, 'n' || n, 'score', jsonb_build_object('window', cast(:name as text)), '{}'
                  from generate_series(1, 60) n
            """),
            {"name": HOUR},
        )
        line = lines.named(session, "main").id
        other = windows.ensure(session, line, parse("2025-01-15T12:00"), state="trained")
        session.execute(text("insert into rlfleet.dataset_windows values (1, :window)"), {"window": other})
    assert "or train on it, the newest first; 50 of 61 are shown" in shown.page(f"/windows/{HOUR}").text
    monkeypatch.setattr(lineage, "MOST", 1)
    found = shown.page(f"/versions/{V1}").text
    assert f"It learned from 2 windows; the first 1 are shown, and rlfleet explain {V1} --all names them all." in found


def test_environments_say_of_which_days_they_tell(shown: Site) -> None:
    found = shown.page("/environments")
    assert "Verdicts of the last 30 days, of all versions together" in found.text
    assert found.row("validation")[1:5] == ["3", "42", "18", "0"]
    with transaction() as session:
        session.execute(text("update rlfleet.evaluations set created_at = now() - interval '31 days'"))
    found = shown.page("/environments")
    assert "Nothing was evaluated on it in the last 30 days." in found.text


def test_the_api_pages_runs_as_it_pages_jobs(api: Api) -> None:
    with transaction() as session:
        line = add_line(session)
        base = add_version(session, line, state="ready")
        for place in range(5):
            lines.start_run(session, line.id, run_config(name=f"r{place}"), base.id)
    seen: list[str] = []
    before: dict[str, int] = {}
    while True:
        page = api.get("runs", limit=2, **before)
        seen += [one["run"] for one in page["runs"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == ["r4", "r3", "r2", "r1", "r0"]
    assert api.viewer.get("/api/admin/runs", params={"limit": 21}).status_code == 422
