"""What pages read stays the same however old the database is: plans over many rows, and lists that say they are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from db import (
    environment_views,
    job_pages,
    job_views,
    lineage,
    lines,
    metrics,
    queues,
    run_views,
    runs,
    trajectories,
    window_pages,
    windows,
    workers,
)
from db.rounds import FAILED
from db.session import transaction
from db.tables import Line
from rl.protocol import QUEUES
from rl.records import Quarantined
from rl.windows import parse
from tests.db import chains
from tests.db.test_lineage import HOUR, add_window, episode
from tests.db.trained import add_line, add_version, evaluate, run_config

MANY = 20_000
FILL = """
    insert into rlfleet.windows (line_id, name, state, starts_at)
    select :line, 'w' || n, 'scored', timestamptz '2025-01-01' + n * interval '1 hour' from generate_series(1, :n) n;
    insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, state)
    select case n % 2 when 0 then 'score' else 'train' end, :line, 'many-' || n, 'score', case n % 2
               when 0 then jsonb_build_object('window', 'w' || n) else jsonb_build_object('windows', jsonb_build_array(
                   'w' || n, 'w' || n + 1)) end, '{}', 'succeeded' from generate_series(1, :n) n;
    insert into rlfleet.datasets (line_id, job_id, sha256, manifest)
    select :line, id, '', '{}' from rlfleet.jobs where dedup_key like 'many-%' and kind = 'train';
    insert into rlfleet.dataset_windows (dataset_id, window_id)
    select d.id, w.id from rlfleet.datasets d join rlfleet.jobs j on j.id = d.job_id,
           jsonb_array_elements_text(j.inputs -> 'windows') n(name) join rlfleet.windows w on w.name = n.name;
    insert into rlfleet.quarantine (line_id, window_id, source, "row", field, reason, excerpt, created_at)
    select :line, w.id, case when w.id % 2 = 0 then :failed else 'f' end, w.name, 'reward', 'must be a number', '',
           now() - interval '90 days' from rlfleet.windows w where w.name like 'w%';
    insert into rlfleet.evaluations (job_id, fence, version_id, checkpoint_id, checkpoint_sha256, task_set,
        task_set_hash, judge, prompt_hash, ids_sha256, first, k, n, missing, created_at)
    select j.id, 1, v.id, v.checkpoint_id, 'x', '{"environment": "gridworld", "split": "old"}', 't', 'j', '', '', j.id,
           5, 9, 1, now() - interval '90 days' from rlfleet.jobs j, rlfleet.versions v where j.dedup_key like 'many-%';
    insert into rlfleet.verdicts (evaluation_id, scenario_id, sample, content_hash, turns, reason)
    select id, 's', 0, '', 1, 'sandbox: killed' from rlfleet.evaluations where checkpoint_sha256 = 'x';
    analyze
"""


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def scanned(session: Session, statement: TextClause, values: Mapping[str, Any]) -> set[str]:
    """The tables that the statement's plan reads from one end to the other."""
    return _scanned(session.execute(text(f"explain (format json) {statement.text}"), values).scalar_one())


def _scanned(plan: object) -> set[str]:
    if isinstance(plan, list):
        return set().union(*map(_scanned, plan)) if plan else set()
    if not isinstance(plan, dict):
        return set()
    own = {str(plan["Relation Name"])} if plan.get("Node Type") == "Seq Scan" else set()
    return own.union(*(_scanned(value) for value in plan.values() if isinstance(value, list | dict)))


def quarantine(session: Session, line: Line, window: int, rows: int, kinds: int) -> None:
    """So many rows of so many reasons, the reasons one as frequent as the other, or once more."""
    bad = [Quarantined(source="f", row=f"{n:04}", field="reward", reason=f"no {n % kinds:03}") for n in range(rows)]
    trajectories.insert_quarantine(session, line.id, window, bad)


def test_no_page_reads_a_whole_table_of_what_grows_with_time(session: Session) -> None:
    line = add_line(session)
    add_version(session, line)
    session.execute(text(FILL), {"line": line.id, "n": MANY, "failed": FAILED})
    ids = list(session.scalars(text("select id from rlfleet.windows order by id desc limit 50")))
    late = {"days": environment_views.DAYS, "failed": FAILED}
    window, dataset = ids[0], session.scalar(text("select max(dataset_id) from rlfleet.dataset_windows"))
    plans: list[tuple[TextClause, dict[str, Any]]] = [
        (window_pages.ROWS, {"ids": ids}),
        (window_pages.ROWS, {"ids": ids[:1]}),
        (job_pages.ABOUT, {"line_id": line.id, "window": "w7"}),
        (environment_views.VERDICTS, late),
        (environment_views.OF_ROUNDS, late),
        (environment_views.OF_EVALUATIONS, late),
        (text(lineage.QUARANTINED), {"ids": [window], "most": 100}),
        (text(lineage.DATASETS), {"ids": [dataset]}),
        (text("select dataset_id from rlfleet.dataset_windows where window_id = :id"), {"id": window}),
    ]
    grows = {"windows", "jobs", "datasets", "dataset_windows", "quarantine", "evaluations", "verdicts"}
    assert [scanned(session, *one) & grows for one in plans] == [set()] * len(plans)


FINISHED = """
    insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, state, fence, finished_at)
    select case n % 3 when 0 then 'score' when 1 then 'train' else 'evaluate' end, :line, 'done-' || n,
           case n % 3 when 0 then 'score' else 'gpu' end, '{}', '{}', 'succeeded', 1, now()
      from generate_series(1, :n) n;
    insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, state, fence, after)
    select case n % 2 when 0 then 'train' else 'score' end, :line, 'waits-' || n,
           case n % 2 when 0 then 'gpu' else 'score' end, '{}', '{}', 'queued', n % 2, array[1] from
           generate_series(1, 20) n;
    insert into rlfleet.totals values ('jobs_succeeded', 'score', :n);
    insert into rlfleet.counted select 'job_events', max(id) from rlfleet.job_events
"""


def test_what_is_told_of_jobs_does_not_read_those_that_are_done(fresh: str) -> None:
    assert fresh
    with transaction() as session:
        line = add_line(session).id
        for statement in FINISHED.split(";"):
            session.execute(text(statement), {"line": line, "n": MANY} if ":" in statement else {})
        session.execute(text("analyze"))
        served = {"queues": list(QUEUES), "present": 60}
        plans: list[tuple[TextClause, dict[str, Any]]] = [
            *((text(metrics.QUERIES[name]), {}) for name in ("jobs", "due", "busy", "running")),
            (queues.QUEUED, served),
            (workers.OLD_QUEUES, {"seconds": 3600}),
            (job_views.COUNTS, {}),
        ]
        assert [scanned(session, *one) & {"jobs", "job_events"} for one in plans] == [set()] * len(plans)
    assert job_views.counts()["succeeded"] == MANY


def test_old_jobs_of_a_window_are_found_by_their_inputs(session: Session) -> None:
    line = add_line(session)
    add_version(session, line)
    session.execute(text(FILL), {"line": line.id, "n": 10, "failed": FAILED})
    found, count = job_pages.of_window(session, line.id, "w4", limit=2)
    assert ([(one.kind, one.inputs) for one in found], count) == (
        [("score", {"window": "w4"}), ("train", {"windows": ["w3", "w4"]})],
        2,
    )
    assert (len(job_pages.of_window(session, line.id, "w4", limit=1)[0]), count) == (1, 2)
    session.execute(text("update rlfleet.jobs set state = 'dead' where kind = 'score'"))
    (row,) = window_pages.rows(session, session.scalars(text("select id from rlfleet.windows where name = 'w4'")).all())
    job = found[0].job_id
    assert (row["reason"], row["quarantined"]) == (f"job {job} dead: rlfleet jobs show {job}", 1)


def test_the_newest_windows_come_oldest_first_with_their_number(session: Session) -> None:
    line = add_line(session)
    for hour in (12, 10, 13, 11):
        windows.ensure(session, line.id, parse(f"2025-01-15T{hour}:00"), state="closed")
    found, count = window_pages.newest(session, line.id, 3)
    assert ([one["name"][-5:] for one in found], count) == (["11:00", "12:00", "13:00"], 4)
    page = window_pages.listing(session, line.id, limit=2)
    assert [one["name"][-5:] for one in page] == ["11:00", "13:00"]
    before = page[-1]["id"]
    assert [one["name"][-5:] for one in window_pages.listing(session, line.id, 2, before)] == ["10:00", "12:00"]


def test_an_explanation_says_what_it_leaves_out(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    line = add_line(session)
    window = add_window(session, line, HOUR, [episode("a1"), episode("a2")])
    quarantine(session, line, window, rows=7, kinds=3)
    monkeypatch.setattr(lineage, "MOST", 2)
    cut = lineage.explain(session, HOUR, limit=1)
    assert [(one["reason"], one["count"], one["row"]) for one in cut.quarantined_rows] == [
        ("no 000", 3, "0000"),
        ("no 001", 2, "0001"),
    ]
    assert cut.quarantined == {"no 000": 3, "no 001": 2}
    assert cut.counts == {"windows": 1, "datasets": 0, "quarantined": 7, "quarantined_kinds": 3}
    assert (len(cut.trajectories), cut.trajectory_count, cut.left_out) == (1, 2, {"not scored": 2})
    whole = lineage.explain(session, HOUR, limit=None)
    assert (whole.quarantined, whole.counts) == ({"no 000": 3, "no 001": 2, "no 002": 2}, cut.counts)


def test_windows_and_datasets_of_an_explanation_are_cut_too(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    line = add_line(session)
    add_version(session, line)
    session.execute(text(FILL), {"line": line.id, "n": 9, "failed": FAILED})
    monkeypatch.setattr(lineage, "MOST", 1)
    dataset = session.scalar(text("select min(dataset_id) from rlfleet.dataset_windows"))
    found = lineage.explain(session, str(dataset))
    assert ([one["name"] for one in found.windows], found.counts) == (
        ["w1"],
        {"windows": 2, "datasets": 1, "quarantined": 2, "quarantined_kinds": 1},
    )
    assert [one["name"] for one in lineage.explain(session, str(dataset), limit=None).windows] == ["w1", "w2"]
    windows.ensure(session, line.id, parse(HOUR), state="trained")
    newest = session.scalar(text("select max(id) from rlfleet.datasets"))
    again = text("insert into rlfleet.dataset_windows select :dataset, id from rlfleet.windows where name = :name")
    session.execute(again, [{"dataset": one, "name": HOUR} for one in (dataset, newest)])
    of_window = lineage.explain(session, HOUR)
    assert ([one["id"] for one in of_window.datasets], of_window.counts["datasets"]) == ([newest], 2)
    assert [one["id"] for one in lineage.explain(session, HOUR, limit=None).datasets] == [dataset, newest]


def test_environments_tell_of_the_last_days_only(session: Session) -> None:
    line = add_line(session)
    version = add_version(session, line)
    evaluate(session, version, 3, 5)
    older = add_version(session, line)
    evaluate(session, older, 50, 50)
    chains.judge(session, add_version(session, line), 1, {"A": (1, 2)}, missing=2)
    for place in range(12):
        run_id = lines.start_run(session, line.id, run_config(name=f"r{place}"), version.id)
    window = add_window(session, line, "run/r11/0001", [])
    session.execute(text("update rlfleet.windows set run_id = :run"), {"run": run_id})
    failed = [Quarantined(source=FAILED, row=str(n), field="sandbox", reason=f"killed {n}") for n in range(3)]
    trajectories.insert_quarantine(session, line.id, window, failed)
    for statement in (
        "update rlfleet.evaluations set created_at = now() - interval '31 days' where version_id = :id",
        """update rlfleet.quarantine set created_at = now() - interval '31 days' where "row" = '0'""",
    ):
        session.execute(text(statement), {"id": older.id})
    (found,) = environment_views.used(session)
    counted = [(one["split"], one["evaluations"], one["right"], one["wrong"], one["none"]) for one in found.verdicts]
    assert (found.name, found.lines, counted) == ("gridworld", ["main"], [("validation", 2, 4, 3, 2)])
    assert (found.runs, found.run_count) == ([f"r{place}" for place in range(11, 1, -1)], 12)
    assert [(one["where"], one["boundary"], one["count"], one["example"]) for one in found.failures] == [
        ("rounds", "sandbox", 2, "killed 1"),
        ("evaluations", "set by a test", 2, "set by a test"),
    ]


def test_runs_are_paged_by_id(session: Session) -> None:
    line = add_line(session)
    base = add_version(session, line, state="ready")
    for place in range(5):
        lines.start_run(session, line.id, run_config(name=f"r{place}"), base.id)
    first = run_views.listing(session, 2)
    assert [one["name"] for one in first] == ["r4", "r3"]
    rest = run_views.listing(session, 9, before=first[-1]["id"])
    assert [one["name"] for one in rest] == ["r2", "r1", "r0"]
    assert [one.name for one in runs.newest(session, 2, before=rest[0]["id"])] == ["r1", "r0"]
