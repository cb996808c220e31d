"""Numbers and moments that the shell is given and no row can have: refused with the option's name."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from db import audit
from db.session import transaction
from fleet import cli
from rl.errors import InvalidInput, PermanentError
from tests.conftest_database import database, database_url, postgres_url
from tests.conftest_redis import broker, redis_url
from tests.fleet.test_versions_cli import shell
from tests.tasks import rows

__all__ = ["broker", "database", "database_url", "postgres_url", "redis_url", "shell"]

ENDLESS = "9" * 20


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("audit", "--before", ENDLESS), "--before"),
        (("audit", "--before", "0"), "--before"),
        (("versions", "--limit", ENDLESS), "--limit"),
        (("windows", "--limit", ENDLESS), "--limit"),
        (("runs", "--last", ENDLESS), "--last"),
        (("jobs", "show", ENDLESS), "job_id"),
        (("jobs", "requeue", "0"), "job_id"),
        (("jobs", "cancel", ENDLESS), "job_id"),
    ],
)
def test_a_number_that_no_row_has_is_refused(shell: CliRunner, words: tuple[str, ...], name: str) -> None:
    found = shell.invoke(cli.app, [*words])
    assert (found.exit_code, name in found.stderr) == (2, True), found.stderr


@pytest.mark.parametrize("days", ["0", "inf", "nan", "1e-9", "99999999"])
def test_the_days_of_a_token_are_more_than_none_and_have_an_end(shell: CliRunner, days: str) -> None:
    error = shell.invoke(cli.app, ["token", "create", "ada", "--days", days]).exception
    assert isinstance(error, InvalidInput)
    assert (error.field, error.remedy.startswith("give 0.001 to 36500")) == ("days", True)


def test_the_audit_says_when_a_token_ends(shell: CliRunner) -> None:
    shell.invoke(cli.app, ["token", "create", "ada", "--days", "36500"])
    (listed,) = json.loads(shell.invoke(cli.app, ["token", "list", "--json"]).stdout)["tokens"]
    with transaction() as session:
        (entry,) = audit.listing(session)
    assert entry.detail == {"role": "operator", "expires": listed["expires_at"]}


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--since", "0001-01-01", "--until", "2025-01-16"), "since"),
        (("--since", "0001-01-01T00:00+05:00"), "since"),
        (("--since", "2025-01-15", "--until", "9999-12-31"), "until"),
    ],
)
def test_a_span_stays_within_the_years_that_are_read(shell: CliRunner, words: tuple[str, ...], field: str) -> None:
    error = shell.invoke(cli.app, ["train", *words]).exception
    assert isinstance(error, InvalidInput)
    assert (error.field, "of the years 1970 to 9998" in error.remedy) == (field, True)


def test_a_backfill_does_not_begin_before_1970(shell: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFILL_HOURS", ENDLESS)
    error = shell.invoke(cli.app, ["train", "--until", "1970-01-02"]).exception
    assert str(error) == f"BACKFILL_HOURS = {ENDLESS}: at most 24, back to 1970; or give --since"


def test_a_job_that_has_succeeded_is_not_cancelled(shell: CliRunner) -> None:
    line = rows.add_line(readiness=rows.EAGER)
    rows.add_scored(line, "2025-01-15T10:00", 1.0)
    job = rows.asked(line)
    rows.rows("update rlfleet.jobs set state = 'succeeded', finished_at = now() returning 1")
    found = shell.invoke(cli.app, ["jobs", "cancel", str(job)])
    assert (type(found.exception), found.stdout) == (PermanentError, "")
    with transaction() as session:
        (entry,) = audit.listing(session)
    assert (entry.action, entry.outcome, f"job {job} has succeeded" in entry.detail["error"]) == (
        "cancel job",
        "refused",
        True,
    )
