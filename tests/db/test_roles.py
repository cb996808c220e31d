"""Who may do what in Postgres: each table has a decision, and the statements of each role run under it alone."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import dispatch, jobs, lines, partitions, prune
from db.migrate import migrate, newest, revision
from db.session import transaction
from rl.errors import DatabaseRefused, InvalidSettings
from tests.conftest_database import add_line
from tests.conftest_roles import login, member_of, speaking
from tests.db.test_weeks import left, old, weeks

DML = "delete insert select update"
READ = {"rlfleet_worker": DML, "rlfleet_viewer": "select"}
"""Of a table that the gateway has nothing to do with."""
STORED = READ | {"rlfleet_gateway": DML}
KNOWN = READ | {"rlfleet_gateway": "select"}
TOKEN = "created_at created_by expires_at id name revoked_at role used_at"

DECIDED: dict[str, dict[str, str]] = {
    "alembic_version": {"rlfleet_worker": "select", "rlfleet_gateway": "select", "rlfleet_viewer": "select"},
    "alerts": READ | {"rlfleet_gateway": "insert(detail name subject) select(created_at name subject)"},
    "audit": READ | {"rlfleet_worker": "insert select"},
    "call_failures": READ | {"rlfleet_gateway": "delete insert select"},
    "call_keys": STORED,
    "calls": STORED,
    "checkpoints": KNOWN,
    "controls": KNOWN,
    "counted": READ,
    "dataset_trajectories": READ | {"rlfleet_gateway": "select(trajectory_id)"},
    "dataset_windows": READ,
    "datasets": READ,
    "decisions": READ,
    "deliveries": READ,
    "engines": KNOWN,
    "evaluations": READ,
    "feedback": STORED,
    "job_events": READ,
    "jobs": READ,
    "judgements": READ | {"rlfleet_gateway": "select(request_sha256) update(answer request_sha256)"},
    "lines": READ | {"rlfleet_gateway": "select(config id name)"},
    "mirrors": READ,
    "outcomes": READ | {"rlfleet_gateway": "delete insert select"},
    "pauses": READ,
    "quarantine": READ | {"rlfleet_gateway": "insert select(excerpt id row) update(excerpt)"},
    "recordings": STORED,
    "rejections": READ,
    "releases": KNOWN,
    "resumes": READ,
    "runs": READ,
    "schedule_slots": READ,
    "scores": READ | {"rlfleet_gateway": "select(compared_in explanation trajectory_id) update(explanation)"},
    "sessions": {
        "rlfleet_worker": "delete select(ctid expires_at)",
        "rlfleet_admin": "insert select update",
        "rlfleet_viewer": "select(created_at expires_at id token_id)",
    },
    "tokens": {"rlfleet_admin": "insert select update", "rlfleet_viewer": f"select({TOKEN})"},
    "totals": READ,
    "trajectories": READ | {"rlfleet_gateway": "delete select(trajectory_id)"},
    "trajectory_keys": READ | {"rlfleet_gateway": "select update(erased_at)"},
    "turns": STORED,
    "verdicts": READ,
    "versions": KNOWN,
    "windows": READ | {"rlfleet_gateway": "select(id) update(reason)"},
    "workers": READ,
    # Views, to read under other names.
    "model_deployments": READ,
    "ruler_scores": READ,
    "trained_models": READ,
    "training_datasets": READ,
    "training_jobs": READ,
    "training_windows": READ,
}
"""Rights by table and role; in brackets the columns that they are for. A table that is missing here has no decision.

``rlfleet_admin`` may what ``rlfleet_worker`` may, as its member.
"""

GRANTED = text("""
    with found as (
        select c.relname, a.grantee, lower(a.privilege_type) as what, null as attname
          from pg_class c, aclexplode(c.relacl) a
         where c.relnamespace = 'rlfleet'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
         union all
        select c.relname, a.grantee, lower(a.privilege_type), t.attname
          from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
         where c.relnamespace = 'rlfleet'::regnamespace and not c.relispartition
    )
    select relname, coalesce(r.rolname, 'public'), what, string_agg(attname, ' ' order by attname)
      from found left join pg_roles r on r.oid = grantee
     where coalesce(r.rolname, 'public') <> 'rlfleet_migrate'
     group by 1, 2, 3, attname is null order by 1, 2, 3
""")
RELATIONS = text("""
    select relname, pg_get_userbyid(relowner) as owner from pg_class
     where relnamespace = 'rlfleet'::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
""")


@pytest.mark.usefixtures("fresh")
def test_every_table_has_a_decision_and_nobody_may_do_more() -> None:
    with transaction() as session:
        owners = {row.relname: row.owner for row in session.execute(RELATIONS)}
        found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for name, role, what, columns in session.execute(GRANTED):
            found[name][role].append(f"{what}({columns})" if columns else what)
    assert set(owners) == set(DECIDED), "decide who may do what with a table, in a migration and here"
    assert set(owners.values()) == {"rlfleet_migrate"}
    assert {table: {role: " ".join(what) for role, what in of.items()} for table, of in found.items()} == DECIDED


MAY = """
    select f.name from (values ('make_partition(text)'), ('drop_partition(text)')) as f(name)
     where has_function_privilege(:role, 'rlfleet.' || f.name, 'execute') order by 1
"""


@pytest.mark.usefixtures("fresh")
def test_functions_that_act_for_the_owner_are_for_those_who_need_them() -> None:
    with transaction() as session:
        may = {role: list(session.scalars(text(MAY), {"role": role})) for role in ROLES}
        public = session.scalars(
            text(
                "select proname from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a "
                "where pronamespace = 'rlfleet'::regnamespace and a.grantee = 0"
            )
        ).all()
    assert may == {
        "rlfleet_worker": ["drop_partition(text)", "make_partition(text)"],
        "rlfleet_admin": ["drop_partition(text)", "make_partition(text)"],
        "rlfleet_gateway": ["make_partition(text)"],
        "rlfleet_viewer": [],
    }
    assert public == []


ROLES = ("rlfleet_worker", "rlfleet_admin", "rlfleet_gateway", "rlfleet_viewer")
TOKEN_OF_MINE = "insert into rlfleet.tokens (name, role, sha256, created_by) values ('a', 'operator', 'b', 'c')"
DENIED = [
    ("rlfleet_worker", "create table rlfleet.mine (id int)"),
    ("rlfleet_worker", "create role mine"),
    ("rlfleet_worker", "create schema mine"),
    ("rlfleet_worker", "alter table rlfleet.jobs add mine int"),
    ("rlfleet_worker", "drop table rlfleet.calls"),
    ("rlfleet_worker", "truncate rlfleet.jobs"),
    ("rlfleet_worker", "update rlfleet.alembic_version set version_num = '0001'"),
    ("rlfleet_worker", "alter table rlfleet.jobs disable trigger user"),
    ("rlfleet_worker", "set role rlfleet_migrate"),
    ("rlfleet_worker", "set role rlfleet_admin"),
    ("rlfleet_worker", TOKEN_OF_MINE),
    ("rlfleet_worker", "update rlfleet.tokens set role = 'operator'"),
    ("rlfleet_worker", "delete from rlfleet.tokens"),
    ("rlfleet_worker", "select sha256 from rlfleet.tokens"),
    ("rlfleet_worker", "select sha256 from rlfleet.sessions"),
    ("rlfleet_worker", "insert into rlfleet.sessions (token_id, sha256, expires_at) values (1, 'a', now())"),
    ("rlfleet_worker", "update rlfleet.sessions set expires_at = now() + interval '9 years'"),
    ("rlfleet_worker", "update rlfleet.audit set actor = 'somebody else'"),
    ("rlfleet_worker", "delete from rlfleet.audit"),
    ("rlfleet_worker", "truncate rlfleet.audit"),
    ("rlfleet_admin", "update rlfleet.audit set actor = 'somebody else'"),
    ("rlfleet_admin", "delete from rlfleet.audit"),
    ("rlfleet_admin", "delete from rlfleet.tokens"),
    ("rlfleet_admin", "update rlfleet.alembic_version set version_num = '0001'"),
    ("rlfleet_admin", "create table rlfleet.mine (id int)"),
    ("rlfleet_admin", "set role rlfleet_migrate"),
    ("rlfleet_gateway", "update rlfleet.releases set share = 100"),
    ("rlfleet_gateway", "insert into rlfleet.controls (line_id, killed) values (1, true)"),
    ("rlfleet_gateway", "update rlfleet.versions set state = 'ready'"),
    ("rlfleet_gateway", "update rlfleet.engines set url = 'http://elsewhere'"),
    ("rlfleet_gateway", "update rlfleet.lines set config = '{}'"),
    ("rlfleet_gateway", "update rlfleet.windows set state = 'open'"),
    ("rlfleet_gateway", "update rlfleet.scores set score = 1"),
    ("rlfleet_gateway", "select sha256 from rlfleet.tokens"),
    ("rlfleet_gateway", "select * from rlfleet.sessions"),
    ("rlfleet_gateway", "select * from rlfleet.audit"),
    ("rlfleet_gateway", TOKEN_OF_MINE),
    ("rlfleet_gateway", "select * from rlfleet.jobs"),
    ("rlfleet_gateway", "insert into rlfleet.jobs default values"),
    ("rlfleet_gateway", "select * from rlfleet.trajectories"),
    ("rlfleet_gateway", "select rlfleet.drop_partition('calls_2025w03')"),
    ("rlfleet_gateway", "create table rlfleet.mine (id int)"),
    ("rlfleet_viewer", "select sha256 from rlfleet.tokens"),
    ("rlfleet_viewer", "select * from rlfleet.tokens"),
    ("rlfleet_viewer", "select sha256 from rlfleet.sessions"),
    ("rlfleet_viewer", "update rlfleet.releases set share = 100"),
    ("rlfleet_viewer", "delete from rlfleet.audit"),
    ("rlfleet_viewer", "insert into rlfleet.alerts (name, subject, detail) values ('a', 'b', '{}')"),
    ("rlfleet_viewer", "select 1 from rlfleet.jobs for update"),
    ("rlfleet_viewer", "select rlfleet.make_partition('calls_2025w03')"),
    ("rlfleet_viewer", "create table rlfleet.mine (id int)"),
]


@pytest.fixture(scope="module")
def logins(database: str) -> object:
    with ExitStack() as stack:
        yield {role: stack.enter_context(login(database, role)) for role in ROLES}


@pytest.mark.parametrize(("role", "statement"), DENIED)
def test_what_a_role_must_not_do_is_denied(logins: dict[str, str], role: str, statement: str) -> None:
    denied = pytest.raises(DatabaseRefused, match=r"permission denied|must be (owner|able)")
    with speaking(logins[role]), denied, transaction() as session:
        session.execute(text(statement))


@pytest.mark.parametrize("name", ["jobs", "calls_1999w01", "calls_2025w99", "calls_9998w01", "calls_2025w03; drop", ""])
@pytest.mark.parametrize("function", ["make_partition", "drop_partition"])
def test_only_partitions_are_made_and_dropped(logins: dict[str, str], function: str, name: str) -> None:
    refused = pytest.raises(DBAPIError, match=r"no partition is called|does not exist|out of")
    with speaking(logins["rlfleet_worker"]), refused, transaction() as session:
        session.execute(text(f"select rlfleet.{function}(:name)"), {"name": name})


def test_a_worker_takes_a_job_ends_it_and_prunes(fresh: str) -> None:
    old("a")
    assert weeks() == {"2025w03"}
    with member_of(fresh, "rlfleet_worker"):
        with transaction() as session:
            line = lines.named(session, "main")
            job_id = dispatch.request(session, dispatch.Spec("score", line.id, {"window": "x"}, {}, "score"))
        claim = jobs.claim(job_id, "a worker", 60)
        assert claim is not None
        jobs.heartbeat(claim, 60)
        with transaction() as session:
            jobs.finish(session, claim, lambda session: {"done": 1})
            assert session.scalar(text("select count(*) from rlfleet.job_events")) > 0
        assert set(prune.old_rows().values()) == {0}
        counts, over = prune.old_trajectories(float("inf"))
        assert (over, counts["weeks"]) == (True, 1)
        assert (weeks(), left()) == (set(), set())
        partitions.ensure([datetime(2025, 1, 15, tzinfo=UTC)])
        assert weeks() == {"2025w03"}
        migrate()  # nothing is to be done
        assert revision().is_newest


def test_partitions_that_a_gateway_has_made_are_like_those_of_the_owner(fresh: str) -> None:
    moment = datetime(2024, 12, 30, tzinfo=UTC)
    with member_of(fresh, "rlfleet_gateway"):
        partitions.ensure([moment])
    query = text("""
        select pg_get_userbyid(c.relowner), pg_get_expr(c.relpartbound, c.oid), has_table_privilege('rlfleet_worker',
               c.oid, 'delete'), has_table_privilege('rlfleet_gateway', c.oid, 'select')
          from pg_class c where relname = :name
    """)
    bound = "FOR VALUES FROM ('2024-12-30 00:00:00+00') TO ('2025-01-06 00:00:00+00')"
    with transaction() as session:
        for table in partitions.PARTITIONED:
            row = session.execute(query, {"name": partitions.name_of(table, moment)}).one()
            assert tuple(row) == ("rlfleet_migrate", bound, True, False)


def test_who_may_not_change_the_schema_is_told_so(fresh: str) -> None:
    with transaction() as session:
        session.execute(text("update rlfleet.alembic_version set version_num = '0011'"))
    try:
        with member_of(fresh, "rlfleet_worker"), pytest.raises(InvalidSettings, match="a member of rlfleet_migrate"):
            migrate()
    finally:
        with transaction() as session:
            session.execute(text("update rlfleet.alembic_version set version_num = :name"), {"name": newest()})


def test_a_table_of_later_is_for_workers_and_for_nobody_else(fresh: str) -> None:
    with member_of(fresh, "rlfleet_migrate"), transaction() as session:
        session.execute(text("set local role rlfleet_migrate"))
        session.execute(text("create table rlfleet.later (id bigint generated always as identity, said text)"))
    try:
        with member_of(fresh, "rlfleet_worker"), transaction() as session:
            session.execute(text("insert into rlfleet.later (said) values ('x')"))
        for role in ROLES[2:]:
            denied = pytest.raises(DatabaseRefused, match="permission denied")
            with member_of(fresh, role), denied, transaction() as one:
                one.execute(text("select * from rlfleet.later"))
    finally:
        with transaction() as session:
            session.execute(text("drop table rlfleet.later"))


def test_a_line_that_a_worker_made_is_there(fresh: str) -> None:
    with member_of(fresh, "rlfleet_worker"), transaction() as session:
        add_line(session)
    with member_of(fresh, "rlfleet_viewer"), transaction() as session:
        assert list(session.scalars(text("select name from rlfleet.lines"))) == ["main"]
