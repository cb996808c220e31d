"""``rlfleet publish --later`` in a process of its own: what it checks, writes down and says, without the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from db import audit, fleet_state, publications
from db.publications import Publication
from db.session import transaction
from db.tables import Version
from fleet import status
from tests.conftest_database import *  # noqa: F403
from tests.fleet.publishing import ready, run
from tests.hub_stand_in import StandIn, hub

REPO = "acme/agent"
AWAY = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": ""}


@pytest.fixture
def there() -> Iterator[StandIn]:
    with hub() as found:
        yield found


@pytest.fixture
def version(database: str, tmp_path: Path) -> str:
    return ready(tmp_path)


def due() -> list[Publication]:
    with transaction() as session:
        return publications.due(session)


def entries() -> list[tuple[str, str, dict[str, Any]]]:
    with transaction() as session:
        return [(one.subject, one.outcome, one.detail) for one in reversed(audit.listing(session))]


def test_it_is_left_to_the_fleet_without_the_hub_or_a_token(
    version: str, there: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("v1.0.0", "--hub", REPO, "--later", "--private", "--base", "acme/base")
    code, out, err = run(there, *words, **AWAY)
    assert (code, err, there.asked) == (0, "", [])
    assert out == (
        f"{version} waits to be published in acme/agent: `rlfleet status` shows it while it waits, and `rlfleet audit` "
        "the commit\n"
    )
    (one,) = due()
    assert (one.version, one.line, one.repository) == (version, "main", REPO)
    asked = {"private": True, "merged": False, "any": False, "base": "acme/base"}
    assert {name: one.options[name] for name in asked} == asked
    detail = {"repository": REPO, "private": True, "merged": False, "any": False, "later": True}
    assert entries() == [(version, "done", detail)]
    status.show(fleet_state.read())
    assert "mirror hub:acme/agent is behind: 1 copies wait, not tried yet\n" in capsys.readouterr().out
    with transaction() as session:
        publications.failed(session, one, "no answer")
    status.show(fleet_state.read())
    assert re.search(r"1 copies wait, the last try \d+ s ago: no answer\n", capsys.readouterr().out)


def test_it_is_told_as_json_and_can_be_cancelled(version: str, there: StandIn) -> None:
    code, out, _ = run(there, version, "--hub", REPO, "--later", "--json", **AWAY)
    told = {"schema": 1, "version": version, "repository": REPO}
    assert (code, json.loads(out)) == (0, told | {"state": "waiting"})
    code, out, _ = run(there, version, "--hub", REPO, "--cancel", "--json", **AWAY)
    assert (code, json.loads(out)) == (0, told | {"state": "cancelled"})
    assert due() == []
    code, out, err = run(there, "v1.0.0", "--hub", REPO, "--cancel", **AWAY)
    assert (code, out) == (2, "")
    assert f"version = '{version}': it does not wait to be published in acme/agent" in err
    assert [outcome for _, outcome, _ in entries()] == ["done", "done", "refused"]


@pytest.mark.parametrize(
    ("words", "change", "said"),
    [
        (("--hub", "agent"), {}, "hub = 'agent': a repository of the Hub is ORG/NAME"),
        (("--hub", REPO, "--base", "base"), {}, "base = 'base': a repository of the Hub is ORG/NAME"),
        (("--hub", REPO), {"state": "rejected"}, "it is rejected: only what passed"),
        (("--hub", REPO, "--merged"), {}, "is gone: put it back"),
        (("--hub", REPO, "--cancel"), {}, "leave out one of --later and --cancel"),
    ],
)
def test_what_can_be_told_now_is_refused_now(
    words: tuple[str, ...], change: dict[str, Any], said: str, version: str, there: StandIn
) -> None:
    if change:
        with transaction() as session:
            session.execute(update(Version).values(**change))
    code, out, err = run(there, version, *words, "--later", "--json", **AWAY)
    assert (code, out, due(), there.asked) == (2, "", [], [])
    assert said in err
    ((_, outcome, detail),) = entries()
    assert outcome == "refused"
    assert said in detail["error"]


def test_a_checkpoint_that_is_not_what_was_evaluated_is_refused_now(
    version: str, there: StandIn, tmp_path: Path
) -> None:
    config = tmp_path / "checkpoint" / "adapter_config.json"
    config.write_text(config.read_text() + " ")
    code, _, err = run(there, version, "--hub", REPO, "--later")
    assert (code, due()) == (2, [])
    assert "put the old one back" in err
    with transaction() as session:
        session.execute(text("update rlfleet.checkpoints set removed_at = now()"))
    assert "retention removed its checkpoint" in run(there, version, "--hub", REPO, "--later")[2]
