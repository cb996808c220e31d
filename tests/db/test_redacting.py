from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from db import lines, redacting
from db.redacting import Redactions, clean, hook_named, unused
from db.session import transaction
from rl.config import LineConfig
from rl.errors import InvalidRow, InvalidSettings
from rl.records import Call, Message, Quarantined, Trajectory
from rl.redaction import Redaction
from tests.conftest_database import empty

HERE = "tests.redaction_hooks"


def trajectory(said: str = "the word is hunter2", **fields: Any) -> Trajectory:
    moment = datetime(2025, 1, 15, 10, tzinfo=UTC)
    tokens: dict[str, Any] = {"prompt_token_ids": [1], "token_ids": [2], "logprobs": [-0.5]}
    asked = [Message(role="user", content="Go.")]
    call = Call(
        call_id="c1", turn=0, model="m", messages=asked, response=Message(role="assistant", content=said), **tokens
    )
    values = {"scenario_id": "s", "agent_id": "a", "reward": 1.0, "calls": [call]} | fields
    return Trajectory(trajectory_id="t1", started_at=moment, ended_at=moment, **values)


def test_a_hook_changes_what_is_stored_and_a_changed_call_loses_its_tokens() -> None:
    after, counts = clean(trajectory(), Redaction(hook=f"{HERE}:mask"))
    assert after.calls[0].response.content == "the word is *******"
    assert not after.calls[0].has_tokens
    assert after.calls[0].logprobs is None
    assert counts == {}
    same = trajectory("go")
    assert clean(same, Redaction(hook=f"{HERE}:mask"))[0] == same


def test_a_hook_that_changes_what_it_was_given_is_noticed() -> None:
    given = trajectory()
    after, _ = clean(given, Redaction(hook=f"{HERE}:in_place"))
    assert after.calls[0].messages == [Message(role="user", content="masked")]
    assert not after.calls[0].has_tokens
    assert after.metadata == {"masked": True}
    assert given == trajectory()


def test_a_hook_sees_what_the_rules_left_and_cannot_bring_it_back() -> None:
    seen, counts = clean(trajectory("bob@x.io"), Redaction(kinds=("email",), hook=f"{HERE}:sees"))
    assert seen.metadata == {"seen": ["[email]"]}
    assert counts == {"email": 1}
    brought, counts = clean(trajectory(), Redaction(kinds=("email",), hook=f"{HERE}:mail"))
    assert brought.metadata == {"by": "[email]"}
    assert counts == {"email": 1}


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("refuse", "refused it"),
        ("fail", "raised ValueError"),
        ("wrong_type", "gave back a str, not a Trajectory"),
        ("other_id", "changed ids, turns or models"),
        ("without_calls", "changed ids, turns or models"),
        ("not_finite", "put in what JSON or a Trajectory cannot hold"),
        ("with_nul", "put in what JSON or a Trajectory cannot hold"),
    ],
)
def test_whatever_else_a_hook_does_is_a_row_that_cannot_be_used(hook: str, reason: str) -> None:
    with pytest.raises(InvalidRow, match=reason) as error:
        clean(trajectory(), Redaction(hook=f"{HERE}:{hook}"))
    assert (error.value.field, error.value.value) == ("redaction.hook", f"{HERE}:{hook}")
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("nowhere.at_all:mask", "cannot be loaded .ModuleNotFoundError.; install it wherever workers and gateways run"),
        (f"{HERE}:nothing", "cannot be loaded .AttributeError."),
        (f"{HERE}:NOT_A_FUNCTION", "is no function"),
    ],
)
def test_a_hook_that_is_not_there_is_a_broken_setting(hook: str, reason: str) -> None:
    with pytest.raises(InvalidSettings, match=reason):
        clean(trajectory(), Redaction(hook=hook))
    with pytest.raises(InvalidSettings):
        hook_named(hook)


def test_rows_that_could_not_be_used_keep_no_excerpt_where_something_is_taken_out() -> None:
    row = Quarantined(source="jsonl", row="a:1", field="bob@x.io", reason="not bob@x.io", excerpt="bob@x.i")
    kept = unused(row, Redaction(kinds=("email",)))
    assert (kept.row, kept.field, kept.reason, kept.excerpt) == ("a:1", "[email]", "not [email]", "")
    assert unused(row, Redaction(hook=f"{HERE}:mask")).excerpt == ""
    assert unused(row, Redaction()) == row


def test_the_rules_of_a_line_that_nobody_knows_are_those_of_all() -> None:
    mail, phone = Redaction(kinds=("email",)), Redaction(kinds=("phone",))
    every = Redactions({"a": mail, "b": None, "c": phone})
    assert (every.of("a"), every.of("b")) == ([mail], [])
    assert every.of(None) == every.of("other") == [mail, phone]
    assert every.is_set
    assert not Redactions({"b": None}).is_set
    broken = Redactions({"a": mail, "b": InvalidSettings("line b redaction.kinds", "<not shown>", "mend it")})
    assert broken.of("a") == [mail]
    for line in ("b", None):
        with pytest.raises(InvalidSettings, match="line b"):
            broken.of(line)


def test_the_redactions_of_lines_as_they_are_stored(database: str) -> None:
    mail = Redaction(kinds=("email",), patterns={"own": "x+"})
    with transaction() as session:
        empty(session)
        first = lines.put(session, "main", LineConfig(base_model="m", redaction=mail))
        other = lines.put(session, "other", LineConfig(base_model="m"))
        newer = lines.put(session, "newer", LineConfig(base_model="m"))
        session.execute(
            text('update rlfleet.lines set config = config || \'{"redaction": {"kinds": ["dna"]}}\' where id = :id'),
            {"id": newer},
        )
    with transaction() as session:
        assert redacting.of_line(session, first) == mail
        assert redacting.of_line(session, other) == Redaction()
        with pytest.raises(InvalidSettings, match=r"line newer redaction\.kinds\.0 .*cannot be understood"):
            redacting.of_line(session, newer)
        every = redacting.of_lines(session)
    assert (every.of("main"), every.of("other")) == ([mail], [])
    with pytest.raises(InvalidSettings, match="line newer"):
        every.of("newer")
