"""What the pages claim is so: of erased and left out trajectories, jobs that wait, health and evaluations."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from admin.pages import versions as versions_page
from db import alerts, dispatch, erasure, lines, pauses, rollbacks, versions
from db.session import transaction
from db.version_views import Judged, Weighed
from rl.config import LineConfig
from rl.held_out import LoggedSet
from rl.report import Count
from tests.admin.looked import HOUR, NEXT, V1, V2, Site, add_window, episode, seen, site
from tests.conftest_database import released
from tests.db import chains


@pytest.fixture
def shown(database: str, broker: object) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:
        yield made


def rewritten(statement: str, **values: object) -> None:
    """Change rows."""
    with transaction() as session:
        session.execute(text(statement), values)


def advantages(shown: Site) -> dict[str, str]:
    """Those of the window, by trajectory."""
    return {row[0]: row[3] for row in shown.page(f"/trajectories?window={HOUR}").rows if row and len(row) == 8}


def test_advantages_that_need_the_tokens_of_an_erased_trajectory_are_not_told(shown: Site) -> None:
    by_batch = {"objective": "reinforce_baseline", "optimizer": {"learning_rate": 0.001}}
    with transaction() as session:
        erasure.erase(session, ["a2"], datetime.now(UTC))
    assert advantages(shown)["a1"] == "+1.000", "scores stay, and GRPO needs nothing else"
    config = "update rlfleet.datasets set manifest = jsonb_set(manifest, '{config}', cast(:config as jsonb))"
    rewritten(config, config=json.dumps(by_batch))
    found = advantages(shown)
    assert found["a1"] == found["a3"] == "some of its trajectories were erased"
    assert f"{V1}; whether it learned from it is not known" in shown.page("/trajectories/a1").text


def test_who_may_be_among_rows_without_a_name_is_not_said_to_be_trained_on(shown: Site) -> None:
    old = "spoken by a version older than max_staleness"
    named = {"read": 500, "used": 2, "skipped": {old: 15}, "named": {old: [f"o{n}" for n in range(10)]}}
    change = "update rlfleet.versions set manifest = cast(:manifest as jsonb) where name = :name"
    rewritten(change, manifest=json.dumps({"rows": named}), name=V1)
    found = shown.page("/trajectories/a1").text
    assert f"Learned from by perhaps {V1}" in found
    assert f"Whether {V1} was trained on it is not known" in found
    assert "Trained on by" not in found
    caveat = "unless it or one of its group is among the 5 rows that training left out and did not name"
    assert advantages(shown)["a1"] == f"+1.000 {caveat}"
    assert found.count(caveat) == 4, "of the dataset, and of the three members"


def test_another_line_has_other_windows_and_another_window_other_scenarios(shown: Site) -> None:
    with transaction() as session:
        lines.put(session, "shop", LineConfig(base_model="x"))
        add_window(session, lines.named(session, "shop"), "2025-01-15T12:00", [episode("q1", "gpt-4o", turns=1)])
    other = shown.page(f"/trajectories?line=shop&window={HOUR}&scenario=s/a").text
    assert "Window 2025-01-15T12:00 of line shop" in other
    assert f"Window {NEXT} of line main" in shown.page(f"/trajectories?line=main&window={NEXT}&scenario=s/a").text


def test_the_trajectory_that_is_looked_at_is_in_its_group_however_large(shown: Site) -> None:
    with transaction() as session:
        many = [episode(f"z{n}", "gpt-4o", turns=1) for n in range(10, 30)]
        add_window(session, lines.named(session, "main"), "2025-01-15T12:00", many)
    found = shown.page("/trajectories/z29").text
    assert "This one" in found
    assert "20 trajectories of this window on s/z, mean reward 0; 16 are shown" in found


def test_a_job_that_waits_says_when_it_begins_and_nothing_of_its_last_attempt(shown: Site) -> None:
    with transaction() as session:
        line = lines.named(session, "main")
        job = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": [NEXT]}, {}, "gpu"))
    put_off = """
        update rlfleet.jobs set started_at = now() - interval '3 days', run_at = now() + interval '20 minutes 30 s',
                                progress = cast(:progress as jsonb) where id = :id
    """
    rewritten(put_off, id=job, progress=json.dumps({"stage": "train", "step": 58, "total": 60}))
    found = shown.page(f"/jobs/{job}").text
    assert "It was put off: it begins in 20 min" in found
    assert "Due in 20 min" in found
    for gone in ("58 of 60", "Began", "For 3 d"):
        assert gone not in found
    pauses.pause("train", "the disk is full")
    assert "Jobs of kind train are paused: the disk is full;" in shown.page(f"/jobs/{job}").text


def test_health_is_of_what_is_so_now(shown: Site) -> None:
    with transaction() as session:
        for name, subject in (("early_stop", "old"), ("queue_old", "gpu"), ("canary_finished", V1)):
            alerts.record(session, name, subject, {})
        session.execute(text("update rlfleet.alerts set created_at = now() - interval '3 h' where subject = 'old'"))
        for _ in range(2):
            alerts.record(session, "beat_silent", "beat", {})
        session.execute(text("update rlfleet.alerts set sent_at = now()"))
    found = shown.page("/").text
    assert f"A decision about {V2} waits for a person: P(better) = 0.9000." in found
    assert found.count("No beat sends the schedule.") == 1
    for gone in ("run old", "in queue gpu wait", "is the stable version now"):
        assert gone not in found


def test_a_config_that_is_not_understood_is_told_of_and_the_rest_is_shown(shown: Site) -> None:
    rewritten("""update rlfleet.lines set config = config || '{"bogus": 1}'""")
    for path in ("/", "/windows"):
        found = shown.page(path).text
        assert "A stored config is not understood: bogus" in found
    assert "What is live?" in shown.page("/").text
    assert HOUR in found


def test_lines_that_cannot_be_are_not_found(shown: Site) -> None:
    assert [shown.viewer.get(f"/?line={line}").status_code for line in ("%00", "nobody")] == [422, 404]


def test_a_win_is_not_called_right_and_the_sentence_names_the_split(shown: Site) -> None:
    duel = LoggedSet(
        split="held_out",
        since="2025-01-14T00:00",
        until="2025-01-15T00:00",
        share=0.1,
        salt="",
        count=30,
        judge={"model": "x"},
        against=V1,
    )
    assert "right on validation scenarios" in shown.page("/").text
    with transaction() as session:
        version = chains.add_version(session, lines.named(session, "main"), state="candidate")
        chains.judge(session, version, 4, {"A": (6, 10)}, duel, by="llm")
    found = shown.page("/").text
    assert f"Is it learning? 60.0 % better than {V1} on held-out scenarios: {version.name}." in found


def test_after_a_rollback_the_next_one_needs_a_name(shown: Site) -> None:
    with transaction() as session:
        line = lines.named(session, "main")
        third = session.execute(text("select id from rlfleet.versions where name = :name"), {"name": V2}).scalar_one()
        versions.set_state(session, [third], "ready", "set by a test")
        released(session, line.id, third, 100, "the third")
    assert "Unless you name a version" in seen(shown.operator.get("/releases/rollback?line=main").text).text
    with transaction() as session:
        rollbacks.roll_back(session, "main", None, "it stalls", "otto")
    page = seen(shown.operator.get("/releases/rollback?line=main").text)
    assert "The stable version is one that was gone back to. To go further, name a version" in page.text
    assert page.count("select", id="to", required="") == 1


def test_stored_json_is_shown_as_it_was_written(shown: Site) -> None:
    said = {"note": "it's für <b>"}
    change = "update rlfleet.trajectories set details = details || cast(:said as jsonb) where trajectory_id = 'a1'"
    rewritten(change, said=json.dumps(said))
    found = shown.viewer.get("/trajectories/a1").text
    assert '"note": "it\'s für <b>"' in html.unescape(found)
    assert "<b>" not in found


def test_the_next_calls_of_an_id_that_looks_quoted_are_found(shown: Site) -> None:
    first = episode("q%34", "gpt-4o", turns=1)
    many = [first.calls[0].model_copy(update={"turn": n, "call_id": f"q-{n}"}) for n in range(12)]
    with transaction() as session:
        about = lines.named(session, "main")
        add_window(session, about, "2025-01-15T12:00", [first.model_copy(update={"calls": many})])
    (after,) = {one for one in shown.page("/trajectories/q%2534").hrefs() if "page=2" in one}
    assert "Page 2 of 2" in shown.page(after).text


def test_an_answer_that_nobody_foresaw_is_guarded_too(shown: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("admin.pages.environments.environment_views.used", fail)
    answer = shown.viewer.get("/environments")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (500, "no-store")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_only_results_of_the_same_set_judge_and_prompt_stand_side_by_side() -> None:
    def weighed(label: str, *keys: str) -> Weighed:
        judged = [
            Judged("logs, held_out", "held_out", Count.of(n, 10), {}, 0, (key, "llm", "")) for n, key in enumerate(keys)
        ]
        return Weighed(label, 4, "f" * 64, "/a", "adapter", {}, None, True, judged)

    pairs = versions_page._pairs(weighed("v2", "warm", "cold"), weighed("v1", "cold"))
    assert [pair["rows"][0][2] for pair in pairs] == [None, Count.of(0, 10)]
