from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers

from gpu import checkpoints, provenance
from gpu.provenance import environment, recorded, sha256_of
from rl.protocol import TrainCommand

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def test_the_environment_names_what_a_byte_depends_on() -> None:
    found = environment(CPU)
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__
    assert found["peft"] == peft.__version__
    assert found["numpy"] == np.__version__
    assert str(found["python"]) == ".".join(map(str, sys.version_info[:3]))
    assert (found["device"], found["threads"], found["deterministic"]) == ("cpu", 1, 0)
    assert found["device_name"]
    assert len(str(found["code"])) == 16
    assert all(isinstance(value, str | int) for value in found.values())
    assert json.loads(json.dumps(found)) == found


def test_it_follows_the_switches_of_torch() -> None:
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    try:
        found = environment(CPU)
    finally:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(False)
    assert (found["threads"], found["deterministic"]) == (2, 1)
    assert {name for name, value in environment(CPU).items() if value != found[name]} == {"threads", "deterministic"}


def test_our_code_has_a_hash_of_its_own(tmp_path: Path) -> None:
    """One more line is another code."""
    for folder in ("rl", "gpu"):
        (tmp_path / folder).mkdir()
        for path in (ROOT / folder).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())

    before = provenance._code(tmp_path)
    provenance._code.cache_clear()
    assert provenance._code(tmp_path) == before
    with (tmp_path / "rl" / "kl.py").open("a") as file:
        file.write("# another line\n")
    provenance._code.cache_clear()
    assert provenance._code(tmp_path) != before


def test_a_folder_is_hashed_again_only_when_a_file_changed(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    first = sha256_of(folder)
    assert first == checkpoints.digest(folder) == sha256_of(base)
    hits = provenance._digest.cache_info().hits
    assert sha256_of(folder) == first
    assert provenance._digest.cache_info().hits == hits + 1
    (folder / "config.json").write_text("{}")
    assert sha256_of(folder) == checkpoints.digest(folder) != first


def test_a_manifest_gets_the_environment_and_the_hash_of_the_base(base: Path) -> None:
    command = TrainCommand(job=1, fence=1, dataset="d", out="o", base=str(base), config={})
    assert recorded(command, CPU) == {"environment": environment(CPU), "base_sha256": checkpoints.digest(base)}


def test_another_process_is_told_as_json(base: Path) -> None:
    argv = [sys.executable, "-m", "gpu.provenance", "--device", "cpu", str(base)]
    variables = {"PYTHONPATH": str(ROOT), "RLFLEET_TORCH_THREADS": "2", "RLFLEET_ENV": "test"}
    run = subprocess.run(argv, env=os.environ | variables, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["folders"] == {str(base): checkpoints.digest(base)}
    # The sources may be edited between the two.
    assert found["environment"] == environment(CPU) | {"threads": 2, "code": found["environment"]["code"]}


def test_a_variable_that_the_child_refuses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.provenance", "--device", "cpu"])
    monkeypatch.setenv("RLFLEET_TORCH_THREADS", "0")
    with pytest.raises(SystemExit, match=r"^gpu\.provenance: RLFLEET_TORCH_THREADS = '0'"):
        provenance.main()


def test_what_trl_runs_through_is_named_for_it_alone() -> None:
    ours, theirs = set(environment(CPU, "local")), set(environment(CPU, "trl"))
    assert theirs - ours == {"accelerate", "datasets", "trl"}
