"""What the documentation tells a careful owner to grant is enough to read everything, and for nothing else."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

import sources
from rl.errors import DatabaseUnavailable, InvalidInput
from rl.records import Quarantined, Trajectory
from tests.sources.babylon import Expected, build
from tests.sources.babylon_tables import NAMES, cursor_on

DOCS = Path(__file__).parents[2] / "docs" / "sources.md"
ROWS = 400
REQUIRED = ("trajectoryId", "agentId", "stepsJson", "endTime")
FORBIDDEN = (
    """update trajectories set "usedInTraining" = true""",
    """update trajectories set "aiJudgeReward" = 1""",
    "delete from trajectories",
    "insert into market_outcomes (id) values ('x')",
    "truncate llm_call_logs",
    "lock table trajectories in share mode",
    "create table public.ours (i int)",
    *(f"select 1 from {name}" for name in NAMES[3:]),  # noqa: S608 - the tables' names
)


@pytest.fixture(scope="module")
def expected(database_url: str) -> Iterator[Expected]:
    """A database in which nobody may do anything that was not granted."""
    found, name = build(database_url, ROWS), urlsplit(database_url).path[1:]
    with cursor_on(database_url) as cursor:
        cursor.execute(f"revoke all on database {name} from public")
        cursor.execute("revoke all on schema public from public")
    yield found
    with cursor_on(database_url) as cursor:
        cursor.execute("grant usage on schema public to public")
        cursor.execute(f"grant connect, temporary on database {name} to public")


@pytest.fixture
def role(database_url: str, expected: Expected) -> Iterator[str]:
    """A role's name, which is also its password; dropped at the end."""
    name = f"reader_{secrets.token_hex(4)}"
    yield name
    with cursor_on(database_url) as cursor:
        cursor.execute(f"drop owned by {name}")
        cursor.execute(f"drop role {name}")


def documented() -> list[str]:
    """The statements of the section on this source."""
    section = DOCS.read_text().split("\n## babylon\n")[1].split("\n## ")[0]
    found = re.search(r"```sql\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1].strip().splitlines()


def carry_out(url: str, role: str, statements: list[str]) -> str:
    """Carry them out for that role and database. Returns the role's URL."""
    parts = urlsplit(url)
    with cursor_on(url) as cursor:
        for one in statements:
            own = one.replace("rlfleet_reader", role).replace("'...'", f"'{role}'")
            cursor.execute(own.replace("database babylon", f"database {parts.path[1:]}"))
    place = f"{role}:{role}@{parts.hostname}:{parts.port or 5432}"
    return urlunsplit(parts._replace(scheme="postgresql", netloc=place))


def test_the_documented_grants_are_enough_and_for_nothing_else(
    database_url: str, role: str, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = carry_out(database_url, role, documented())
    monkeypatch.setenv("BABYLON_URL", url)
    found = list(sources.connect("babylon://BABYLON_URL").read(None))
    assert {one.trajectory_id for one in found if isinstance(one, Trajectory)} == expected.usable
    assert {one.row: (one.field, one.reason) for one in found if isinstance(one, Quarantined)} == expected.quarantined
    for statement in FORBIDDEN:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege), cursor_on(url) as cursor:
            cursor.execute(statement)


def test_columns_can_be_granted_one_by_one(
    database_url: str, role: str, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ", ".join(f'"{name}"' for name in REQUIRED)
    statements = [*documented()[:3], f"grant select ({columns}) on trajectories to rlfleet_reader"]
    monkeypatch.setenv("BABYLON_URL", carry_out(database_url, role, statements))
    found = [one for one in sources.connect("babylon://BABYLON_URL").read(None) if isinstance(one, Trajectory)]
    # Calls of silent steps are in a table that was not granted; what was no training data does not say so here.
    assert {one.trajectory_id for one in found} >= expected.usable - expected.from_logs
    assert {one.archetype for one in found} == {None}
    assert all("outcome" not in one.metadata or "markets" not in one.metadata["outcome"] for one in found)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_each_of_them_is_needed(
    database_url: str, role: str, expected: Expected, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    statements = documented()
    del statements[missing]
    monkeypatch.setenv("BABYLON_URL", carry_out(database_url, role, statements))
    with pytest.raises((DatabaseUnavailable, InvalidInput)):
        list(sources.connect("babylon://BABYLON_URL").read(None))
