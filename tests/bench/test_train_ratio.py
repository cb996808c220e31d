"""The training benchmark on tiny models: every arm computes the same gradients, and its report says what it must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.train_ratio import exactness, heads
from bench.train_ratio.__main__ import main
from bench.train_ratio.compare import arms_of
from bench.train_ratio.model import TINY, build, distance, gradient
from bench.train_ratio.report import RATIOS, report, text
from bench.train_ratio.workloads import WORKLOADS
from gpu import head

CPU = torch.device("cpu")
KEYS = {
    "schema",
    "uniform_vs_trl",
    "ragged_vs_trl",
    "conversation_vs_per_turn",
    "packing_efficiency",
    "no_sharing_vs_trl",
    "gradient_error",
    "chunked_head_peak_ratio",
    "pairs",
    "intervals",
    "shapes",
    "passed",
}

# TRL and what it loads warn about themselves; what is compared here are numbers.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", WORKLOADS)
def test_all_arms_compute_the_same_gradients(name: str) -> None:
    work, model = WORKLOADS[name](3, TINY.vocabulary, 0.15), build(TINY, 3, CPU)
    found = {}
    for arm, make in arms_of(name).items():
        make(model, work)()
        found[arm] = gradient(model)
    assert float(found["padded"].norm()) > 0
    for arm, one in found.items():
        assert distance(one, found["padded"]) <= 1e-5, arm


@pytest.mark.parametrize(
    ("name", "unique", "padded", "spoken"),
    [
        ("uniform", 512 + 8 * 128, 8 * 640, 8 * 128),
        ("ragged", 512 + 1024, 8 * (512 + 330), 1024),
        ("conversation", 256 + 6 * 128, 6 * (256 + 6 * 128), 6 * 64),
        ("no_sharing", 8 * 640, 8 * 640, 8 * 128),
    ],
)
def test_workloads_have_the_tokens_that_they_name(name: str, unique: int, padded: int, spoken: int) -> None:
    work = WORKLOADS[name](0, 1024, 1.0)
    assert (work.shares.unique, work.shares.padded, work.spoken) == (unique, padded, spoken)
    assert sum(work.spoken_each) == sum(sum(one.mask) for one in work.rows)
    for row, prompt in zip(work.rows, work.prompts, strict=True):
        assert row.mask == [0] * prompt + [1] * (len(row.ids) - prompt)
    back = work.reversed()
    assert [(row.episode, at) for row, at in zip(back.rows, back.owner, strict=True)] == [
        (row.episode, at) for row, at in zip(work.rows[::-1], work.owner[::-1], strict=True)
    ]


def test_a_run_writes_its_report_and_says_whether_it_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    argv = ["--parts", "uniform,conversation,exactness", "--quick", "--pairs", "2", "--json", str(file)]
    status = main(argv, TINY)
    found = json.loads(file.read_text())
    assert found.keys() >= KEYS
    assert status == (0 if found["passed"] else 1)
    assert found["schema"] == 1
    assert found["passed"] == all(gate["holds"] for gate in found["gates"])
    assert found["uniform_vs_trl"] == found["workloads"]["uniform"]["vs_trl"] > 0
    assert found["conversation_vs_per_turn"] == found["workloads"]["conversation"]["vs_masked"]
    assert found["gradient_error"] == max(found["exactness"].values()) <= 1e-5
    assert found["intervals"].keys() == {"uniform_vs_trl", "conversation_vs_per_turn"}
    low, high = found["intervals"]["uniform_vs_trl"]
    assert low <= found["uniform_vs_trl"] <= high
    assert found["shapes"]["uniform"]["token_ratio"] == pytest.approx(10 / 3, abs=0.01)
    assert (found["ragged_vs_trl"], found["chunked_head_peak_ratio"], found["pairs"]) == (None, None, 2)
    arms = found["workloads"]["uniform"]["arms"]
    assert arms.keys() == {"ours", "padded", "trl"}
    assert 0 < arms["ours"]["peak_bytes"] < arms["padded"]["peak_bytes"]
    printed = capsys.readouterr().out
    assert "G8 P256 R64; 2 layers, hidden 32, vocabulary 96; prefix share 70." in printed


def test_a_missed_gate_is_the_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--parts", "exactness", "--quick"]
    assert main(argv, TINY) == 0
    monkeypatch.setattr(exactness, "GATE", 1e-12)
    assert main(argv, TINY) == 1
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--parts", "uniform,none"], ["--pairs", "0"]])
def test_what_cannot_be_measured_is_a_usage_error(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


def test_every_objective_that_trains_is_compared() -> None:
    found = exactness.measure(TINY, CPU, 1, 0.2)
    assert set(found) == set(exactness.OBJECTIVES)
    assert 0 < min(found.values()) <= max(found.values()) <= exactness.GATE


def test_the_chunked_head_holds_a_few_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 4 * 1000 * 128)
    found = heads.measure(CPU, 0, rows=512, hidden=8, vocabulary=1000)
    assert 3 * 4 * 512 * 1000 <= found["full_bytes"] <= 3.2 * 4 * 512 * 1000
    assert 2 * 4 * 128 * 1000 <= found["chunked_bytes"] <= 2.2 * 4 * 128 * 1000
    assert found["ratio"] == found["chunked_bytes"] / found["full_bytes"]


def measured(**changes: Any) -> dict[str, Any]:
    """All parts with numbers that hold every gate, but for the changes."""
    one = {"vs_trl": 5.0, "vs_masked": 7.0, "vs_trl_interval": [4.0, 6.0], "vs_masked_interval": [6.0, 8.0]}
    shape = {"what": "", "model": "", "pairs": 7, "prefix_share": 0.5, "unique_tokens": 1, "padded_tokens": 2}
    workloads = {name: one | shape | {"token_ratio": 6.0, "efficiency": 0.9} for name in WORKLOADS}
    for name, value in changes.items():
        workload, _, key = name.partition("__")
        workloads[workload][key] = value
    return {"workloads": workloads, "exactness": {"grpo": 1e-6}, "head": {"ratio": 0.1}}


def verdict(parts: dict[str, Any]) -> tuple[bool, list[str]]:
    found = report(parts, {"pairs": 7})
    return found["passed"], [gate["name"] for gate in found["gates"] if not gate["holds"]]


def test_each_gate_is_missed_on_its_own() -> None:
    assert verdict(measured()) == (True, [])
    assert verdict(measured(uniform__vs_trl=2.69)) == (False, ["uniform_vs_trl"])
    assert verdict(measured(ragged__vs_trl=4.49)) == (False, ["ragged_vs_trl"])
    assert verdict(measured(conversation__vs_masked=6.49)) == (False, ["conversation_vs_per_turn"])
    assert verdict(measured(no_sharing__vs_trl=0.99)) == (False, ["no_sharing_vs_trl"])
    assert verdict(measured(ragged__efficiency=0.84)) == (False, ["packing_efficiency"])
    assert verdict(measured() | {"exactness": {"gspo": 2e-5}}) == (False, ["gradient_error of gspo"])
    assert verdict(measured() | {"head": {"ratio": 0.16}}) == (False, ["chunked_head_peak_ratio"])
    assert verdict(measured(uniform__vs_trl=float("nan"))) == (False, ["uniform_vs_trl"])
    assert verdict({})[0] is False


def test_the_uniform_gate_is_what_sharing_can_reach() -> None:
    gates = {gate["name"]: gate["bound"] for gate in report(measured(uniform__token_ratio=2.0), {})["gates"]}
    assert gates["uniform_vs_trl"] == pytest.approx(1.7)
    assert gates["ragged_vs_trl"] == RATIOS["ragged_vs_trl"][2] == 4.5


def test_a_large_model_has_gates_of_its_own() -> None:
    large = {"error_in_noise": 1.0, "utilisation": 0.5, "epoch_seconds": 60.0, "peak_bytes": 90e9}
    assert verdict({"large": large}) == (True, [])
    slow = large | {"utilisation": 0.3, "epoch_seconds": 100.0}
    assert verdict({"large": slow}) == (False, ["utilisation", "epoch_seconds"])
    assert "large: utilisation 0.3" in text(report({"large": slow}, {"device": "x", "seed": 0}))
