from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

import environments
from environments.agent import ChatClient
from environments.check import check
from environments.play import Assignment, Outcome, play_many
from environments.sampling import samples
from environments.scripted import converse, policy
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

NAME = "sat-small+textcraft-small*2"
MIX = environments.load(NAME)


def _ref(seed: int, name: str = NAME, split: str = "held_out") -> ScenarioRef:
    return ScenarioRef.model_validate({"environment": name, "split": split, "seed": seed})


class Scripted:
    """A chat client whose model says what the member's expert says first, whatever comes next; it notes the tools."""

    def __init__(self, name: str, refs: Sequence[ScenarioRef]) -> None:
        self.tools: dict[str, set[str]] = {}
        self._replies: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        for ref in refs:
            episode = environments.load(name).open(ref)
            opening = self._key(episode.messages)
            self._replies[opening], self._kinds[opening] = episode.oracle(), episode.environment.name
            episode.close()

    @staticmethod
    def _key(messages: Sequence[Message]) -> str:
        return json.dumps([message.content for message in messages[:2]])

    async def reply(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None, **_: object
    ) -> Message:
        opening = self._key(messages)
        names = {tool["function"]["name"] for tool in tools or ()}
        self.tools.setdefault(self._kinds[opening], set()).update(names)
        return Message(role="assistant", content=self._replies[opening])


def _play(name: str, count: int) -> tuple[list[Outcome], Scripted]:
    refs = [_ref(seed, name) for seed in range(count)]
    chat = Scripted(name, refs)
    assignments = [Assignment(ref, f"t-{ref.seed}") for ref in refs]
    playing = play_many(environments.load(name), assignments, cast("ChatClient", chat), 4, lambda *_: None)
    return asyncio.run(playing), chat


def test_a_mix_is_one_environment_under_its_name() -> None:
    assert environments.load(NAME) is MIX
    assert (MIX.name, MIX.profile, MIX.max_turns, MIX.max_tokens) == (NAME, "mix", 4, 40)
    assert (MIX.success, MIX.idle, list(MIX.tools), MIX.blocks, MIX.sandboxed) == (1.0, "", [], False, False)
    assert MIX.system.startswith("sat-small: Make every clause true.")
    assert "\n\ntextcraft-small: Reply with one action" in MIX.system
    assert MIX.scenarios("held_out") is None


def test_a_scenario_is_the_members_own() -> None:
    for seed, member, inner in [
        (0, "sat-small", 0),
        (1, "textcraft-small", 0),
        (3, "sat-small", 1),
        (5, "textcraft-small", 3),
    ]:
        mixed, own = MIX.open(_ref(seed)), environments.load(member).open(_ref(inner, member))
        assert mixed.messages == own.messages
        assert mixed.content_hash == own.content_hash
        assert mixed.type == f"{member}: {own.type}"
        assert mixed.environment is environments.load(member)
        while not (step := mixed.step(mixed.oracle())).done:
            assert step == own.step(own.oracle())
        assert step == own.step(own.oracle())
        mixed.close()


def test_a_mix_is_dealt_evenly_and_told_apart_by_type() -> None:
    outcomes, _ = _play(NAME, 30)
    members = Counter(outcome.type.partition(": ")[0] for outcome in outcomes)
    assert members == {"sat-small": 10, "textcraft-small": 20}
    assert {outcome.type for outcome in outcomes} == {
        *(f"sat-small: n{size}" for size in (3, 4, 5)),
        *(f"textcraft-small: depth{depth}" for depth in (1, 2)),
    }
    assert len({outcome.content_hash for outcome in outcomes if outcome.type.startswith("textcraft")}) == 20
    assert [outcome.scenario_id for outcome in outcomes] == [f"{NAME}/held_out/{seed}" for seed in range(30)]
    assert all(outcome.success and outcome.turns == 1 for outcome in outcomes if outcome.type.startswith("sat"))
    assert not any(outcome.success for outcome in outcomes if outcome.type.startswith("textcraft"))


def test_success_is_what_each_member_calls_one() -> None:
    mixed = environments.load("trading+sat-small")
    assert (environments.load("trading").success, mixed.success) == (0.5, 1.0)
    refs = [_ref(seed, mixed.name) for seed in range(0, 80, 2)]
    told = [converse(mixed, ref, policy("chance", ref)) for ref in refs]
    assert all(one.success is (one.reward >= 0.5) for one in told)
    assert any(0.5 <= one.reward < 1 for one in told)  # a success of trading that is none by the mix's own threshold


def test_tools_are_offered_in_the_episodes_of_their_member_only() -> None:
    outcomes, chat = _play("trading-tools+sat-small", 4)
    assert chat.tools["sat-small"] == set()
    assert chat.tools["trading-tools"] >= {"buy_shares", "wait"}
    assert [outcome.success for outcome in outcomes if outcome.type.startswith("sat")] == [True, True]


def test_a_mix_can_be_linted_and_checked() -> None:
    assert {sample.kind for sample in samples(MIX, _ref(1))} == {"right", "wrong", "silent"}
    found = check(NAME, 12)
    assert (found.name, found.oracle_success, found.idle.solved, found.passed) == (NAME, 1.0, 0, True)


def test_the_command_checks_a_mix() -> None:
    words = [
        sys.executable,
        "-m",
        "fleet",
        "environments",
        "--check",
        "sat-small+textcraft-small",
        "--count",
        "6",
        "--json",
    ]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    (row,) = json.loads(ran.stdout)["environments"]
    assert (row["name"], row["oracle_success"], row["passed"]) == ("sat-small+textcraft-small", 1.0, True)


def test_a_mix_has_so_many_scenarios_as_no_member_runs_out_of() -> None:
    held = environments.load("sciworld").scenarios("held_out")
    assert held is not None
    mixed = environments.load("sat-small+sciworld*2")
    assert mixed.scenarios("held_out") == held // 2 * 3 + 1 + held % 2


def test_other_scenarios_and_unknown_members_are_refused() -> None:
    with pytest.raises(InvalidInput, match="scenario = 'sat-small/train/1'"):
        MIX.open(_ref(1, "sat-small", "train"))
    with pytest.raises(InvalidInput, match=r"environment = 'chess'.*known environments are"):
        environments.load("sat-small+chess")
    with pytest.raises(InvalidInput, match="sat-small is in it twice"):
        environments.load("sat-small+sat-small")
