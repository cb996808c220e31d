from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rl.config import LineConfig
from rl.records import Action, Call, Message, Trajectory, Turn
from rl.redaction import Redaction, ids, redact, redact_text
from rl.redaction_rules import BUILT_IN, repeats_what_repeats

MOMENT = datetime(2025, 1, 15, 10, tzinfo=UTC)
EVERY = Redaction(kinds=tuple(BUILT_IN))
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


def without(text: str, *kinds: str, **patterns: str) -> str:
    return redact_text(text, Redaction.model_validate({"kinds": kinds, "patterns": patterns}))


@pytest.mark.parametrize(
    ("kind", "text", "left"),
    [
        ("email", "write to alice.b+c@mail.example.com.", "write to [email]."),
        ("email", "<jürgen@müller.example>, bob@x.io", "<[email]>, [email]"),
        ("email", "a@b and @handle and 3@5.7", "a@b and @handle and 3@5.7"),
        ("phone", "call +49 (171) 234-5678 now", "call [phone] now"),
        ("phone", "(555) 123-4567 or 555-123-4567", "[phone] or [phone]"),
        ("phone", "0171 2345678, 030/901820", "[phone], [phone]"),
        (
            "phone",
            "2025-01-15 10:00, +5 points, 1736935200000, 12.345.678",
            "2025-01-15 10:00, +5 points, 1736935200000, 12.345.678",
        ),
        ("card", "4111 1111 1111 1111 12/26", "[card] 12/26"),
        ("card", "5500005555555559,378282246310005", "[card],[card]"),
        ("card", "no 12 4111-1111-1111-1111", "no 12 [card]"),
        ("card", "4111111111111112 has a wrong check digit", "4111111111111112 has a wrong check digit"),
        ("card", "14111111111111111 and 41111111111111110", "14111111111111111 and 41111111111111110"),
        ("iban", "DE89 3704 0044 0532 0130 00 paid", "[iban] paid"),
        ("iban", "BE68539007547034 and BE68 5390 0754 7034 PAID", "[iban] and [iban] PAID"),
        ("iban", "DE88 3704 0044 0532 0130 00", "DE88 3704 0044 0532 0130 00"),
        ("token", "Authorization: Bearer abcdef0123456789abcdef", "Authorization: [token]"),
        ("token", f"jwt={JWT};", "jwt=[token];"),
        ("token", "the bearer responsibilities-of-office", "the bearer responsibilities-of-office"),
        ("api_key", "key sk-proj-abcdefghijklmnop1234 ok", "key [api_key] ok"),
        ("api_key", "sk_live_abcdefghijklmnop ghp_0123456789abcdefghij0123", "[api_key] [api_key]"),
        ("api_key", "task-oriented-dialogue-systems", "task-oriented-dialogue-systems"),
        ("aws_key", "AKIAIOSFODNN7EXAMPLE", "[aws_key]"),
        ("aws_key", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "[aws_key]"),
        ("ipv4", "from 10.0.0.255:8080 and 1.2.3.4.", "from [ipv4]:8080 and [ipv4]."),
        ("ipv4", "256.1.1.1 and 1.2.3.4.5", "256.1.1.1 and 1.2.3.4.5"),
    ],
)
def test_what_a_kind_finds(kind: str, text: str, left: str) -> None:
    assert without(text, kind) == left
    assert without(text) == text


def test_own_patterns_come_after_the_kinds_in_the_order_of_their_names() -> None:
    assert without("C-17 wrote to C-18@example.com", "email", customer=r"C-\d+") == "[customer] wrote to [email]"
    assert without("ab", b="ab", a="a") == "[a]b"


def test_replacements_are_never_found_again() -> None:
    assert without("mail bob@x.io", "email", word=r"\w+") == "[word] [email]"
    assert without("[email] [word]", "email", word=r"\w+") == "[email] [word]"


def call(**fields: Any) -> Call:
    values = {
        "call_id": "bob@x.io/0",
        "turn": 0,
        "model": "m@x.io",
        "messages": [Message(role="user", content="hello")],
        "response": Message(role="assistant", content="go"),
        "prompt_token_ids": [1],
        "token_ids": [2],
        "logprobs": [-0.5],
        "finish_reason": "stop",
    }
    return Call(**(values | fields))


def trajectory(**fields: Any) -> Trajectory:
    values = {
        "trajectory_id": "t@x.io",
        "scenario_id": "s@x.io",
        "agent_id": "a@x.io",
        "started_at": MOMENT,
        "ended_at": MOMENT,
        "reward": 1.0,
        "calls": [],
    }
    return Trajectory(**(values | fields))


def test_every_text_is_looked_at_and_counted_and_ids_stay() -> None:
    function = {"name": "send", "arguments": '{"to": "bob\\u0040x.io", "card": 4111111111111111}'}
    said = Message(
        role="assistant",
        content="1 bob@x.io",
        reasoning_content="2 bob@x.io",
        name="bob@x.io",
        tool_calls=[{"id": "bob@x.io", "type": "function", "function": function}],
    )
    tools = [{"type": "function", "function": {"name": "send", "description": "to bob@x.io"}}]
    asked = [Message(role="tool", content="3 bob@x.io", tool_call_id="bob@x.io")]
    turn = Turn(
        turn=0,
        state={"bob@x.io": [{"deep": "bob@x.io"}], "card": 4111111111111111.0, "pnl": 12.5, "n": 3, "ok": True},
        action=Action(kind="bob@x.io", parameters={"a": "bob@x.io"}, result=["bob@x.io"], error="bob@x.io"),
        outcome={"who": "bob@x.io"},
    )
    one = trajectory(
        calls=[call(messages=asked, response=said, tools=tools)],
        turns=[turn],
        archetype="bob@x.io",
        metadata={"bob@x.io": 1, "bob@y.io": 2},
    )
    after, counts = redact(one, EVERY)
    assert ids(after) == ids(one)
    [spoken] = after.calls
    assert (spoken.call_id, spoken.model, spoken.finish_reason) == ("bob@x.io/0", "m@x.io", "stop")
    assert spoken.messages == [Message(role="tool", content="3 [email]", tool_call_id="bob@x.io")]
    assert (spoken.response.content, spoken.response.reasoning_content) == ("1 [email]", "2 [email]")
    assert spoken.response.name == "[email]"
    assert spoken.response.tool_calls is not None
    assert spoken.response.tool_calls[0]["id"] == "bob@x.io"
    arguments = spoken.response.tool_calls[0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": "[email]", "card": "[card]"}
    assert spoken.tools == [{"type": "function", "function": {"name": "send", "description": "to [email]"}}]
    assert (spoken.prompt_token_ids, spoken.token_ids, spoken.logprobs) == (None, None, None)
    assert after.turns[0].state == {"[email]": [{"deep": "[email]"}], "card": "[card]", "pnl": 12.5, "n": 3, "ok": True}
    assert after.turns[0].action == Action(
        kind="[email]", parameters={"a": "[email]"}, result=["[email]"], error="[email]"
    )
    assert after.turns[0].outcome == {"who": "[email]"}
    assert (after.archetype, after.metadata) == ("[email]", {"[email]": 1, "[email][again]": 2})
    assert counts == {"email": 16, "card": 2}
    assert redact(after, EVERY) == (after, {})


def test_a_call_whose_words_stay_keeps_its_tokens() -> None:
    one = trajectory(calls=[call(), call(call_id="c2", response=Message(role="assistant", content="bob@x.io"))])
    kept, lost = redact(one, EVERY)[0].calls
    assert kept == one.calls[0]
    assert (kept.has_tokens, lost.has_tokens) == (True, False)
    assert lost.token_ids is lost.logprobs is lost.prompt_token_ids is None


def test_arguments_that_are_no_json_are_text() -> None:
    for arguments, left in (('{"to": "bob@x.io', '{"to": "[email]'), ("NaN", "NaN"), ("[" * 9000, "[" * 9000)):
        tool_calls = [{"id": "1", "function": {"name": "f", "arguments": arguments}}]
        said = Message(role="assistant", tool_calls=tool_calls)
        after = redact(trajectory(calls=[call(response=said)]), EVERY)[0].calls[0].response.tool_calls
        assert after == [{"id": "1", "function": {"name": "f", "arguments": left}}]


def test_a_pattern_over_several_values_is_found_in_arguments_too() -> None:
    redaction = Redaction(patterns={"ssn": r'"ssn": "\d+"'})
    tool_calls = [{"id": "1", "function": {"name": "f", "arguments": '{"ssn": "123"}'}}]
    one = trajectory(calls=[call(response=Message(role="assistant", tool_calls=tool_calls))])
    after = redact(one, redaction)[0].calls[0].response.tool_calls
    assert after == [{"id": "1", "function": {"name": "f", "arguments": "{[ssn]}"}}]


SECRETS = ["bob@x.io", "4111 1111 1111 1111", "DE89370400440532013000", "+49 171 2345678", "10.0.0.1", "C-17"]
KEYS = ["sk-abcdefghijklmnop12", "AKIAIOSFODNN7EXAMPLE"]
BITS = ["[email]", "[", "]", "\\u0040", '"', " ", "1", "a", "\n", "@", "-", "0"]
PIECES = st.sampled_from(SECRETS + KEYS + BITS)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
REDACTIONS = st.builds(
    Redaction,
    kinds=st.lists(st.sampled_from(list(BUILT_IN)), unique=True).map(tuple),
    patterns=st.dictionaries(
        st.sampled_from(["x", "email1", "z"]), st.sampled_from([r"\w+", r"C-\d+", r"\d", r"^a", r"[\[\]]", r'"', r"\s"])
    ),
)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS, VALUES, VALUES, REDACTIONS)
def test_redacting_again_changes_nothing(
    prompt: str, arguments: str, state: Any, more: Any, redaction: Redaction
) -> None:
    tool_calls = [{"id": "1", "function": {"name": "f", "arguments": text}} for text in (arguments, json.dumps(state))]
    said = Message(role="assistant", content=prompt, tool_calls=tool_calls)
    turn = Turn(turn=0, state={"s": state}, action=Action(kind=prompt, result=more), outcome={prompt: more})
    one = trajectory(calls=[call(response=said)], turns=[turn], metadata={prompt: state, arguments: more})
    after, _ = redact(one, redaction)
    assert redact(one, redaction)[0] == after, "the same again"
    again, counts = redact(after, redaction)
    assert again == after
    assert counts == {}
    assert ids(after) == ids(one)


@settings(max_examples=200, deadline=None)
@given(TEXTS, VALUES)
def test_nothing_that_is_found_is_left(prompt: str, state: Any) -> None:
    redaction = Redaction(kinds=("email",), patterns={"customer": r"C-\d+"})
    turn = Turn(turn=0, state={"s": state})
    after = redact(
        trajectory(calls=[call(response=Message(role="assistant", content=prompt))], turns=[turn]), redaction
    )[0]
    words = json.dumps([after.turns[0].state, after.calls[0].response.content], ensure_ascii=False)
    assert "bob@x.io" not in words
    assert "C-17" not in words


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a*", "matches the empty string"),
        (r"\b", "matches the empty string"),
        ("(", "is no regular expression"),
        ("a{99999999999999}", "is no regular expression"),
        ("x" * 501, "write at most 500 characters"),
        ("(a+)+b", "repeats a group"),
        (r"(?:\w|\d){2,}", "repeats a group"),
        (r"((ab?)c)*d", "repeats a group"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Redaction(patterns={"own": pattern})


def test_which_patterns_repeat_what_repeats() -> None:
    for fine in (r"(?:\d{3}-){2}\d{4}", r"[(a+)+]x", r"\(a+\)+", "(?:ab)+c", "(a+|b)c", r"(?P<n>\d+)-", "(?<!a+)b{2}"):
        assert not repeats_what_repeats(fine), fine
    for slow in ("(a*)*", "(a|ab)+", r"(\s?x)+", "((a+)b){3,}", r"(?:(?:a+))*"):
        assert repeats_what_repeats(slow), slow


def test_names_of_patterns_and_hooks() -> None:
    for name in ("email", "again"):
        with pytest.raises(ValidationError, match="has a meaning of its own"):
            Redaction(patterns={name: "x"})
    for fields in ({"patterns": {"Own": "x"}}, {"kinds": ["ssn"]}, {"hook": "no function"}, {"hook": "a:b.c"}):
        with pytest.raises(ValidationError):
            Redaction.model_validate(fields)
    assert Redaction(hook="package.module:function").is_set
    assert not Redaction().is_set


def test_a_line_without_redaction_is_stored_as_before() -> None:
    assert "redaction" not in LineConfig(base_model="m").model_dump()
    line = LineConfig(base_model="m", redaction=Redaction(kinds=("email",), patterns={"own": "x"}))
    assert LineConfig.model_validate(json.loads(line.model_dump_json())) == line
