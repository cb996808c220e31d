"""Versions, runs and environments: lineage, verdicts with their intervals, decisions, and a person's word on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db import audit, lines, windows
from db.session import transaction
from db.tables import Run
from rl.records import Quarantined
from rl.windows import round_of
from tests.admin.looked import HOUR, V0, V1, V2, Site, seen, site, version_state
from tests.db import chains
from tests.db.trained import HELD_OUT, run_config

SET = "gridworld validation: 20 scenarios from seed 0"


@pytest.fixture(scope="module")
def shown(database: str, broker: object) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, site(patch) as made:
        yield made


def post(shown: Site, path: str, reason: str = "", **fields: str) -> int:
    """As the form of a page would be sent."""
    word = seen_word(shown)
    return shown.operator.post(path, data={"word": word, "reason": reason} | fields).status_code


def seen_word(shown: Site) -> str:
    return seen(shown.operator.get("/releases").text).field("word")


def test_versions_are_listed_with_lineage_release_and_interval(shown: Site) -> None:
    found = shown.page("/versions?line=main")
    assert [row[0] for row in found.rows[1:]] == [V2, V1, V0]
    newest, second, first = found.rows[1:]
    # Beta(1 + 15, 1 + 5) holds 80 % between 0.603 and 0.842.
    assert second[1:4] == [f"15/20 60.3 % to 84.2 % {SET}", "ready", "stable 100 %"]
    assert second[4:6] == [V0, f"1: {HOUR}"]
    assert (newest[2], newest[3], newest[4]) == ("candidate waits for approval", "no", V1)
    assert (first[3], first[1][:5], first[4]) == ("no", "10/20", "the base model")
    labels = [one["aria-label"] for tag, one in found.tags if tag == "svg"]
    assert labels[1] == "15 of 20 right, 80 % interval 60.3\N{NO-BREAK SPACE}% to 84.2\N{NO-BREAK SPACE}%"


def test_one_version_leads_back_to_trajectories_and_against_stable(shown: Site) -> None:
    found = shown.page(f"/versions/{V1}")
    assert f"Goes on from {V0} Base model random-qwen3" in found.text
    assert f"rlfleet reproduce {V1} --line main" in found.text
    assert "5 trajectories in 2 groups" in found.text
    assert "1 longer than the context" in found.text
    assert found.row("a1")[1:4] == [f"{HOUR} s/a judge", "1", "1"]
    assert "/trajectories/a1" in found.hrefs()
    waiting = shown.page(f"/versions/{V2}")
    assert waiting.row("all types")[1][:5] == "17/20"
    assert waiting.row("all types")[3][:5] == "15/20"
    assert waiting.row("A")[1][:4] == "9/10"
    assert waiting.row("A")[3][:4] == "8/10"
    assert "P(better) 0.9000" in waiting.text
    assert "Would change it fewer right answers" in waiting.text
    assert waiting.count("button", cls="primary") == 0  # a viewer has no word in it


def test_what_is_not_there_is_not_found(shown: Site) -> None:
    for path in ("/versions/nobody-v1.0.9", f"/versions/{HOUR}", "/versions/1", "/versions?line=x", "/runs/never"):
        assert shown.viewer.get(path).status_code == 404, path


def test_a_viewer_and_a_stranger_change_nothing(shown: Site) -> None:
    word = seen_word(shown)
    for path in (f"/versions/{V2}/approve", f"/versions/{V2}/refuse", f"/versions/{V2}/reject", "/runs/demo/finish"):
        assert shown.viewer.post(path, data={"word": word, "reason": "x"}).status_code == 403
        assert shown.operator.post(path, data={"word": "guessed", "reason": "x"}).status_code == 403
    assert version_state(V2) == "candidate"


def test_an_operator_refuses_a_version_with_a_reason(shown: Site) -> None:
    assert post(shown, f"/versions/{V2}/refuse") == 400
    assert post(shown, f"/versions/{V2}/refuse", "it stalls") == 303
    assert version_state(V2) == "rejected"
    found = shown.page(f"/versions/{V2}")
    assert "Refused by otto: it stalls." in found.text
    with transaction() as session:
        entry = audit.listing(session)[0]
    assert (entry.actor, entry.action, entry.subject, entry.outcome) == ("otto", "refuse", V2, "done")
    assert post(shown, f"/versions/{V2}/approve") == 400


def start_run() -> None:
    """A paused run of one trained round, whose version did worse; an episode of it failed."""
    with transaction() as session:
        line = lines.named(session, "main")
        base = chains.versions.named(session, V1)[0]
        validation = chains.VALIDATION
        run_id = lines.start_run(session, line.id, run_config(validation=validation, held_out=HELD_OUT), base.id)
        chains.play(session, line, "run/demo/0001", [1.0, 0.0], run_id)
        made = chains.add_version(session, line, (4,), "run/demo/0001", parent=base, state="candidate", scores=(0.5,))
        chains.judge(session, made, 4, {"A": (6, 10), "B": (6, 10)}, missing=0)
        lines.pause_run(session, run_id, "early stop")
        window = windows.named(session, line.id, round_of("demo", 1).text)
        failed = Quarantined(source="rollout", row="run/demo/0001/9", field="sandbox", reason="killed: no memory")
        chains.trajectories.insert_quarantine(session, line.id, window.id, [failed])


def test_a_run_is_shown_and_finished(shown: Site) -> None:
    start_run()
    listed = shown.page("/runs").row("demo")
    assert listed[1:5] == ["paused early stop", "1 of 2", "gridworld", "grpo"]
    found = shown.page("/runs/demo")
    made = found.row("babylon-agent-v1.0.3")
    assert (made[2][:5], made[5]) == ("12/20", "0.500")
    assert found.row(V1)[6] == "best so far"
    assert found.row("run/demo/0001")[1:] == ["trained", "2", "2", "0.500", "1"]
    chart = next(one["aria-label"] for tag, one in found.tags if tag == "svg" and one["class"] == "chart")
    assert chart.startswith("v1.0.1 15 of 20 right")
    assert "v1.0.3 12 of 20 right" in chart
    used = shown.page("/environments")
    assert used.row("validation")[1:5] == ["4", "54", "26", "0"]
    assert used.row("sandbox")[1:] == ["rounds", "1", "killed: no memory"]
    assert post(shown, "/runs/demo/finish") == 303
    with transaction() as session:
        run = session.get_one(Run, lines.run_named(session, "demo").id)
        assert (run.state, run.finishing) == ("running", True)
        assert audit.listing(session)[0].action == "finish run"
