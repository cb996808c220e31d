"""The engine's benchmark: its arithmetic, its checks, and that all arms give the same answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from bench.engine import __main__, checks, table, workload
from bench.engine.measure import Bench, gates, interval, summary
from gpu.generate import Completion
from gpu.policy import Policy

SECONDS = {"vs_static": [(1.0, 2.0), (2.0, 3.0), (1.0, 1.0)], "vs_generate": [(1.0, 5.0), (2.0, 8.0), (1.0, 4.5)]}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    torch.set_num_threads(1)
    folder = workload.starter(tmp_path_factory.mktemp("bench"), seed=1)
    policy = Policy(torch.device("cpu"))
    version = policy.load("starter", str(folder))
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    plain.generation_config.eos_token_id = None
    chats = workload.chats(version.tokens, 7, seed=2)
    short = [replace(chat, answer_tokens=1 + 3 * at) for at, chat in enumerate(chats)]
    return Bench(policy, version, plain.eval(), short, at_once=3)


def report() -> dict[str, Any]:
    found = summary(SECONDS, tokens=120) | {"logprob_error": 1e-6, "differing_answers": 0}
    return (
        found
        | {"shapes": {"chats": 3}, "http_tokens_per_second": 90, "http_overhead": 0.5}
        | {"http_tokens_per_wall_second": 80}
    )


def test_a_ratio_is_of_neighbours_and_the_median_counts() -> None:
    found = summary(SECONDS, tokens=120)
    assert found["ratios"] == {"vs_static": [2.0, 1.5, 1.0], "vs_generate": [5.0, 4.0, 4.5]}
    assert (found["vs_static"], found["vs_generate"], found["pairs"]) == (1.5, 4.5, 3)
    assert found["tokens_per_cpu_second"] == {"engine": 120, "static": 60, "generate": 24}


def test_an_interval_is_of_the_median() -> None:
    assert interval([2.0] * 7) == [2.0, 2.0]
    low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert 1.0 <= low < 4.0 < high <= 7.0
    assert interval([1.0, 5.0, 9.0]) == interval([1.0, 5.0, 9.0])


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, None),
        ({"vs_generate": 3.99}, "vs_generate"),
        ({"vs_static": 1.19}, "vs_static"),
        ({"logprob_error": 2e-4}, "logprob_error"),
        ({"differing_answers": 1}, "same_tokens"),
    ],
)
def test_each_gate_alone_decides_the_exit_status(
    change: dict[str, Any], missed: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = report() | change
    held = gates(found)
    assert [name for name, holds in held.items() if not holds] == ([missed] if missed else [])
    whole = found | {"gates": held, "passed": all(held.values())}
    monkeypatch.setattr(__main__, "_report", lambda *_: whole)
    path = tmp_path / "report.json"
    assert __main__.main(["--json", str(path)]) == (1 if missed else 0)
    assert json.loads(path.read_text())["passed"] is (missed is None)


def test_the_table_says_what_was_missed() -> None:
    found = report() | {"vs_generate": 3.5}
    console = Console(record=True, width=150)
    table.show(found | {"gates": gates(found), "passed": False}, console)
    said = console.export_text()
    assert ">= 4 MISSED" in said
    assert ">= 1.2 held" in said
    assert "+50% CPU a token" in said


def test_lengths_are_ragged_and_follow_the_seed(bench: Bench) -> None:
    asked = workload.chats(bench.version.tokens, 64, seed=5)
    assert asked == workload.chats(bench.version.tokens, 64, seed=5)
    assert asked != workload.chats(bench.version.tokens, 64, seed=6)
    least, middle, most = workload.shapes(asked, bench.plain)["answer_tokens"]
    assert 8 <= least < middle / 2 < 2 * middle < most <= 240
    assert len({tuple(chat.prompt[:24]) for chat in asked}) == 64
    assert max(len(chat.prompt) for chat in asked) <= 400


def test_all_arms_give_the_same_answers_of_the_lengths_that_were_asked_for(bench: Bench) -> None:
    ours = bench.engine()
    said = [one.token_ids for one in ours]
    assert [len(one) for one in said] == [chat.answer_tokens for chat in bench.chats]
    assert checks.differing(bench.plain, bench.chats, said, bench.static()) == 0
    assert checks.differing(bench.plain, bench.chats, said, bench.generate()) == 0
    assert checks.logprob_error(bench.plain, bench.chats, ours) < 1e-4


def test_an_answer_that_is_wrong_is_counted(bench: Bench) -> None:
    ours = bench.engine()
    said = [list(one.token_ids) for one in ours]
    wrong = [list(one) for one in said]
    wrong[3][4] = (wrong[3][4] + 1) % 300
    wrong[5] = wrong[5][:-1]
    assert checks.differing(bench.plain, bench.chats, said, wrong) == 2
    off = [Completion(one.token_ids, [p + 0.01 for p in one.logprobs], "length") for one in ours]
    assert checks.logprob_error(bench.plain, bench.chats, off) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.slow
def test_a_quick_run_measures_every_part(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    status = __main__.main(["--quick", "--pairs", "1", "--json", str(path)])
    found = json.loads(path.read_text())
    assert status == (0 if found["passed"] else 1)
    assert (found["schema"], found["pairs"], found["differing_answers"]) == (1, 1, 0)
    assert found["logprob_error"] <= 1e-4
    assert found["http_tokens_per_second"] > 0
    assert {"vs_generate", "vs_static", "intervals", "shapes"} <= set(found)
