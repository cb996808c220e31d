from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import DBAPIError

from db import calls, results
from db import session as db_session
from db import settings as db_settings
from db.migrate import alembic_config, migrate
from db.partitions import PARTITION
from db.tables import SCHEMA, Base
from rl.errors import DatabaseUnavailable
from tests.conftest_database import _execute

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nothing(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database in which nothing was ever made, and which ``db`` speaks to."""
    name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
    server = "postgresql://" + postgres_url.split("://", 1)[1]
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    _execute(server, f"create database {name}")
    monkeypatch.setenv("DATABASE_URL", url)
    forget()
    yield url
    db_session.engine().dispose()
    forget()
    _execute(server, f"drop database {name} with (force)")


def forget() -> None:
    db_settings.settings.cache_clear()
    db_session._engine.cache_clear()


def differences() -> list[object]:
    """What autogenerate would still write."""
    options = {
        "include_schemas": True,
        "version_table_schema": SCHEMA,
        "include_name": lambda name, kind, _: (
            name == SCHEMA if kind == "schema" else kind != "table" or not PARTITION.fullmatch(name)
        ),
    }
    with db_session.engine().connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def tables() -> set[str]:
    return set(inspect(db_session.engine()).get_table_names(schema=SCHEMA))


OURS = {table.name for table in Base.metadata.sorted_tables} | {"alembic_version"}


def test_from_empty_the_migrations_make_what_the_tables_say(nothing: str) -> None:
    migrate()
    assert tables() == OURS
    assert differences() == []
    migrate()


def test_the_way_down_and_up_again(nothing: str) -> None:
    migrate()
    command.downgrade(alembic_config(), "base")
    assert tables() == {"alembic_version"}
    migrate()
    assert differences() == []


def test_two_starts_at_once_do_not_race(nothing: str) -> None:
    environ = os.environ | {"DATABASE_URL": nothing, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "db.migrate"]
    starts = [subprocess.Popen(argv, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [start.communicate(timeout=60)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0], said
    assert tables() == OURS


def test_a_server_that_is_away_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:secret@127.0.0.1:1/app")
    forget()
    with pytest.raises(DatabaseUnavailable, match="did not answer") as caught:
        migrate()
    assert "secret" not in str(caught.value)
    forget()


def test_indexes_are_built_before_anything_keeps_readers_away(nothing: str) -> None:
    """Revision 0005, on a database that is in use."""
    command.upgrade(alembic_config(), "0004")
    said: list[str] = []
    event.listen(db_session.engine(), "before_cursor_execute", lambda *heard: said.append(heard[2].strip().lower()))
    command.upgrade(alembic_config(), "0005")
    made = [place for place, one in enumerate(said) if one.startswith("create index")]
    altered = [place for place, one in enumerate(said) if one.startswith("alter table")]
    assert len(made) == 4
    assert max(made) < min(altered)


def test_a_migration_gives_up_where_somebody_holds_a_table(nothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command.upgrade(alembic_config(), "0004")
    with monkeypatch.context() as patched, db_session.transaction() as session:
        patched.setattr("db.migrate.LOCK_SECONDS", 0.1)
        session.execute(text("select count(*) from rlfleet.scores"))  # as a backup does
        with pytest.raises(DatabaseUnavailable, match=r"holds a table for longer than 0\.1 s.*run `rlfleet migrate`"):
            migrate()
    migrate()
    assert differences() == []


BEFORE_PARTITIONS = """
insert into rlfleet.lines (name, config) values ('main', '{}');
insert into rlfleet.windows (line_id, name, state, ends_at)
    values (1, '2025-01-15T10:00', 'scored', '2025-01-15T11:00Z');
insert into rlfleet.trajectories (trajectory_id, line_id, window_id, scenario_id, agent_id, source, reward, started_at,
    ended_at) values ('t0', 1, 1, 's', 'a', 'jsonl', 1, '2025-01-15T10:01Z', '2025-01-15T10:02Z');
insert into rlfleet.turns (trajectory_id, turn, action, reward) values ('t0', 0, 'left', 1);
insert into rlfleet.scores (trajectory_id, method, method_version, input_hash, score)
    values ('t0', 'reward', '1', 'h', 1);
insert into rlfleet.calls (call_id, trajectory_id, turn, line, model, body, prompt_token_ids, token_ids, logprobs,
    created_at) values
    ('c0', 't0', 0, 'main', 'v1', '{"messages": [], "response": {"role": "assistant", "content": "left"}}',
     '{1,70000}', '{2}', '{-0.5}', '2025-01-12T23:59:59Z'),
    ('c1', 'elsewhere', 0, 'main', 'gpt', '{"messages": [], "response": {"role": "assistant", "content": "x"}}',
     null, null, null, '2025-01-12T23:59:59Z')
"""


def test_rows_of_before_come_to_lie_in_the_week_of_their_window(nothing: str) -> None:
    command.upgrade(alembic_config(), "0002")
    _execute(nothing, BEFORE_PARTITIONS)
    migrate()
    with db_session.transaction() as session:
        stored = calls.of_trajectories(session, ["t0"])["t0"]
        assert [(one.prompt_token_ids, one.token_ids, one.logprobs) for one in stored] == [([1, 70000], [2], [-0.5])]
        assert calls.with_id(session, "c1") is not None
        found = session.execute(
            text("select p.relname, call_id from rlfleet.calls c join pg_class p on p.oid = c.tableoid order by 2")
        ).all()
        assert found == [("calls_2025w03", "c0"), ("calls_2025w02", "c1")]
        assert session.execute(text("select turn, action from rlfleet.turns")).all() == [(0, "left")]
        assert calls.insert(session, [again("c0")]) == [False]
    assert differences() == []
    with pytest.raises(DBAPIError, match="restore a backup that was taken before"):
        command.downgrade(alembic_config(), "0002")


BEFORE_SHARDS = """
insert into rlfleet.lines (name, config) values ('main', '{}');
insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config)
    select 'evaluate', 1, 'k' || n, 'gpu', '{}', '{}' from generate_series(1, 4) n;
insert into rlfleet.checkpoints (job_id, fence, step, kind, uri, base_uri, sha256, metrics)
    select n, 1, 1, 'full', '/c', '/b', 'same', '{}' from generate_series(1, 2) n;
insert into rlfleet.versions (line_id, number, name, job_id, fence, checkpoint_id, base_model, manifest)
    select 1, n, 'v' || n, n, 1, n, 'b', '{}' from generate_series(1, 2) n;
insert into rlfleet.evaluations (job_id, fence, version_id, checkpoint_id, task_set, task_set_hash, judge, prompt_hash,
    ids_sha256, k, n, missing) select 2 + n, 1, n, n, '{"environment": "e"}', 't', 'j', 'p', '', n - 1, 1, 0
    from generate_series(1, 2) n;
insert into rlfleet.verdicts (evaluation_id, scenario_id, sample, "right", content_hash, turns)
    values (1, 's', 0, false, '', 1), (2, 's', 0, true, '', 1)
"""


def test_of_two_evaluations_of_equal_weights_the_first_counts_and_both_are_kept(nothing: str) -> None:
    command.upgrade(alembic_config(), "0005")
    _execute(nothing, BEFORE_SHARDS)
    migrate()
    with db_session.transaction() as session:
        found = results.results(session, ["same"])["same"]["t"]
        assert (found.k, found.n, found.prompt_hash, found.earlier) == (0, 1, "p", ())
        kept = session.execute(text('select evaluation_id, "right" from rlfleet.verdicts order by 1')).all()
        assert [tuple(one) for one in kept] == [(1, False), (2, True)]
    command.downgrade(alembic_config(), "0005")
    with db_session.transaction() as session:
        assert session.execute(text("select count(*) from rlfleet.evaluations")).scalar_one() == 2
    migrate()
    assert differences() == []


def again(call_id: str) -> calls.NewCall:
    return calls.NewCall(call_id, "t0", 0, "main", "v1", None, [], {"role": "assistant", "content": "right"})
