from __future__ import annotations

import dataclasses
from typing import Any

from admin.pages import concerns
from db.alerts import Alert
from db.approvals import Asked
from db.job_views import Summary
from db.pauses import Paused
from db.queues import Queue
from db.workers import Present


def alert(name: str, subject: str, **detail: Any) -> Alert:
    return Alert(1, name, subject, detail, "2025-01-15T10:00:00Z", 0, None)


def dead(number: int) -> Summary:
    return Summary(number, "score", "main", "dead", 3, 3, {}, None, "no answer", [], None)


def test_a_queue_without_workers_is_worse_than_a_backlog() -> None:
    queues = [Queue("gpu", 2, 5.0, 0, 0, 0), Queue("score", 40, 3600.0, 0, 4, 4), Queue("maint", 1, 2.0, 0, 0, 1)]
    found = list(concerns.of_workers([], queues))
    assert [(one.tone, one.words) for one in found] == [
        ("bad", "2 jobs wait in queue gpu, and no worker serves it"),
        ("warn", "the oldest of 40 jobs in queue score waits for 1 h"),
    ]
    assert all(one.remedy for one in found)


def test_only_workers_that_fell_silent_are_told_of() -> None:
    workers = [Present(f"w{n}@h", ["gpu"], 1, "gpu0", 1, "", seconds) for n, seconds in enumerate((3.0, 125.0))]
    assert [one.words for one in concerns.of_workers(workers, [])] == ["worker w1@h was last heard of 2 min 5 s ago"]


def test_the_newest_dead_jobs_have_names_and_the_others_a_number() -> None:
    found = list(concerns.of_jobs(map(dead, range(20, 0, -1)), {"dead": 20, "failed": 1}))
    assert len(found) == concerns.SHOWN + 2
    assert (found[0].words, found[0].path) == ("job 20 (score, line main) is dead: no answer", "/jobs/20")
    assert [(one.words, one.path) for one in found[-2:]] == [
        ("12 more dead jobs", "/jobs?state=dead"),
        ("1 more failed job", "/jobs?state=failed"),
    ]


def test_jobs_that_failed_lead_to_a_list_that_has_them() -> None:
    failed = [dataclasses.replace(dead(number), state="failed") for number in range(12, 0, -1)]
    found = list(concerns.of_jobs(failed, {"dead": 0, "failed": 12}))
    assert len(found) == concerns.SHOWN + 1
    assert (found[-1].words, found[-1].path) == ("4 more failed jobs", "/jobs?state=failed")


def test_a_paused_kind_says_how_it_goes_on() -> None:
    (one,) = concerns.of_pauses([Paused("train", "5 jobs died within 15 min", "")])
    assert (one.tone, one.remedy) == ("bad", "mend the cause, then `rlfleet jobs resume train`")


def test_an_alert_brings_its_own_remedy_or_gets_ours() -> None:
    waiting = [
        alert("canary_without_rewards", "v2", remedy="log rewards under {braces}"),
        alert("early_stop", "run-1", reason="3 rounds without a better one"),
        alert("COLLAPSE", "v3", evidence="half of the answers are broken"),
        alert("COLLAPSE", "v3", evidence="an older one"),
        *(alert(name, "told of by rows, or good") for name in (*concerns.TOLD_OF_ROWS, "canary_finished")),
    ]
    found = list(concerns.of_alerts(waiting))
    assert [(one.words, one.remedy, one.path) for one in found] == [
        ("the canary v2 gets too few rewards to be judged", "log rewards under {braces}", "/versions/v2"),
        ("the run run-1 stopped early: 3 rounds without a better one", "", ""),
        ("COLLAPSE: v3: half of the answers are broken", "", ""),
    ]


def test_a_candidate_that_gets_on_by_itself_is_no_concern() -> None:
    waits = ["verdicts of v1 on held_out: job 3 is running", "verdicts: job 4 is dead; `rlfleet jobs requeue 4`"]
    found = list(concerns.of_candidates([{"line": "main", "version": "v1", "waits": waits}]))
    assert [one.words for one in found] == [f"v1: {waits[1]}"]


def test_a_line_whose_config_is_not_understood_is_a_concern() -> None:
    (one,) = concerns.of_candidates([{"line": "main", "version": None, "waits": ["the config is not understood"]}])
    assert one.words == "line main: the config is not understood"


def test_a_decision_waits_for_a_person_whoever_was_told() -> None:
    asked = Asked(1, "main", "v2", "v1", "paired-margin", "better by 6 points", {}, "2025-01-15T10:00:00Z")
    (one,) = concerns.of_approvals([asked])
    assert one.words == "a decision about v2 waits for a person: better by 6 points"
    assert (one.remedy, one.path) == ("approve it or refuse it on the page of its version", "/versions/v2")
