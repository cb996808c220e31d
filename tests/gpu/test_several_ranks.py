"""What two processes of a training keep of a model, and what they agree on."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpu.policy import Policy
from gpu.trainer import train
from rl.errors import OutOfMemory
from rl.protocol import EVENTS, DatasetRow, StateSaved, TrainCommand
from tests.gpu.test_several import distances
from tests.gpu.test_several_ends import SHORT, only
from tests.gpu.trainings import manifest, steps, trained, weights

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def in_two(folder: Path, what: str, *arguments: str) -> None:
    """Have two processes do ``what`` (``of_two.py``); fails with the words of the one that fails."""
    script = [sys.executable, str(ROOT / "tests/gpu/of_two.py")]
    both = [
        subprocess.Popen(
            [*script, str(rank), str(folder), what, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [one.communicate(timeout=240)[0] for one in both]
    finally:
        for one in both:
            one.kill()
    assert [one.returncode for one in both] == [0, 0], "\n".join(said)


OUT_OF_MEMORY = """
import importlib, os
if os.environ.get("RANK") == "1":
    import torch

    def runs_out(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    setattr(importlib.import_module({module!r}), {name!r}, runs_out)
"""
BROKEN = """
import atexit
from gpu import rank

def join(*_):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

rank._join = join
atexit.register(print, "collectives are torn down")
rank.main()
"""


@pytest.mark.parametrize(
    ("module", "name", "doing"),
    [("gpu.ranks", "shard", "dividing the model"), ("gpu.sharding", "weights", "gathering a checkpoint")],
)
def test_memory_that_runs_out_where_parts_are_made_or_gathered_is_said_by_its_name(
    base: Path, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, doing: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(OUT_OF_MEMORY.format(module=module, name=name))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path, ROOT))))
    config = {"objective": "sft", "optimizer": {"learning_rate": 1e-4}, "devices": 2, **SHORT}
    where = {"dataset": dataset, "out": str(tmp_path / "out"), "base": str(base)}
    policy = Policy(torch.device("cpu"), devices=[torch.device("cpu")] * 2)
    with pytest.raises(OutOfMemory, match=f"^out of memory while {doing}: "):
        train(TrainCommand(job=1, fence=1, config=config, **where), policy, lambda event: None)


def test_a_process_whose_device_is_broken_ends_at_once_and_tears_nothing_down() -> None:
    commands, told = os.pipe()
    said, events = os.pipe()
    try:
        os.write(told, b"{}\n")
        words = ["--device", "cuda:0", "--commands-fd", str(commands), "--events-fd", str(events)]
        ended = subprocess.run(
            [sys.executable, "-c", BROKEN, *words, "--parent", str(os.getpid())],
            pass_fds=(commands, events),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        for descriptor in (commands, told, said, events):
            os.close(descriptor)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "RuntimeError: CUDA error: an illegal memory access was encountered" in ended.stderr


def test_a_process_keeps_its_part_alone_of_a_base_in_bfloat16_under_an_adapter(base: Path, tmp_path: Path) -> None:
    in_two(tmp_path, "keeps_its_part", str(base))


def test_a_state_that_one_process_refuses_is_used_by_none(
    base: Path, write_rows: Callable[..., str], make_row: Callable[..., DatasetRow], tmp_path: Path
) -> None:
    rows = write_rows([make_row(i, answers=["turn left"] * (1 + i % 3)) for i in range(8)])
    run = trained(Policy(torch.device("cpu")), base, rows, tmp_path)
    whole = run("whole", "sft", **SHORT)
    state = only(run("first", "sft", pausing=lambda said: said == 2, **SHORT), StateSaved)
    config = {"objective": "sft", "devices": 2, **SHORT}
    where = {"dataset": rows, "out": str(tmp_path / "last"), "base": str(base), "resume": state.path}
    in_two(tmp_path, "refuses", TrainCommand(job=1, fence=1, config=config, **where).line().decode())
    events = [EVENTS.validate_json(line) for line in (tmp_path / "last/events").read_bytes().splitlines()]
    said = manifest(events)
    assert said["resume_refused"] == (
        f"resume = {state.path!r}: another process of the training cannot use it, or found another step there; "
        "see the child's log"
    )
    assert "resumed" not in said
    assert len(steps(events)) == said["updates"] == 4
    assert max(distances(weights(events), weights(whole))) <= 1e-5
