"""Locks on devices, held and waited for by real processes."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gpu.locks import lock_device, lock_paths
from rl.errors import StartError

ROOT = Path(__file__).parents[2]
IDS = {"gpu0": "GPU-aaa", "gpu1": "GPU-bbb", "gpu2": "GPU-ccc"}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that all fleets of the machine share."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "rlfleet-devices"


def visible(device: str) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(IDS[name] for name in device.split("+"))}


def names_of(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_gpu_is_locked_by_its_own_id_for_the_whole_machine(tmp_path: Path, machine: Path) -> None:
    state = tmp_path / "state"
    both = visible("gpu0+gpu1")
    assert lock_paths(state, "gpu0+gpu1", both) == [machine / "GPU-aaa.lock", machine / "GPU-bbb.lock"]
    assert names_of(lock_paths(state, "gpu3+gpu2", both)) == ["GPU-aaa.lock", "GPU-bbb.lock"], "by place"
    assert names_of(lock_paths(state, "cuda:1", both)) == ["GPU-bbb.lock"]
    assert names_of(lock_paths(state, "cuda:0", {})) == ["cuda-0.lock"]
    assert names_of(lock_paths(state, "gpu0", {"CUDA_VISIBLE_DEVICES": "MIG-1/2"})) == ["MIG-1-2.lock"]
    assert lock_paths(state, "cpu0+cpu1", both) == [state / "devices" / f"cpu{number}.lock" for number in (0, 1)]
    for other in ("cpu", "fake"):
        assert lock_paths(state, other, both) == [state / "devices" / f"{other}.lock"]


@pytest.mark.parametrize(
    ("device", "ids", "why"),
    [
        ("", "", "write cpu, or GPUs joined"),
        ("gpu0+", "", "write cpu, or GPUs joined"),
        ("gpu0+gpu0", "", "each once"),
        ("cpu+gpu0", "", "write cpu, or GPUs joined"),
        ("cpu0+gpu0", "", "write cpu, or GPUs joined"),
        ("cpu+cpu0", "", "write cpu, or GPUs joined"),
        ("gpu0", "GPU-aaa,GPU-bbb", "name each GPU in both"),
        ("gpu0+gpu1", "GPU-aaa", "name each GPU in both"),
        ("cuda:2", "GPU-aaa,GPU-bbb", "it names no such GPU"),
    ],
)
def test_a_set_that_names_no_devices_is_refused(tmp_path: Path, device: str, ids: str, why: str) -> None:
    with pytest.raises(StartError, match=why):
        lock_device(tmp_path, device, variables={"CUDA_VISIBLE_DEVICES": ids})


def test_two_fleets_cannot_share_a_gpu(tmp_path: Path, machine: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with lock_device(one, "gpu0", variables=visible("gpu1")):
        with pytest.raises(StartError, match=f"gpu5 is in use by process {os.getpid()}; stop it, or see {machine}"):
            lock_device(other, "gpu5", 0, {"CUDA_VISIBLE_DEVICES": "GPU-bbb"})
        with lock_device(one, "cpu"), lock_device(other, "cpu"):
            pass
    lock_device(other, "gpu0", 0, visible("gpu1")).close()


def test_a_set_that_is_not_free_keeps_none_of_its_devices(tmp_path: Path) -> None:
    with lock_device(tmp_path, "gpu1", variables=visible("gpu1")):
        with pytest.raises(StartError, match=r"gpu0\+gpu1 is in use"):
            lock_device(tmp_path, "gpu0+gpu1", 0, visible("gpu0+gpu1"))
        lock_device(tmp_path, "gpu0", 0, visible("gpu0")).close()


def test_every_user_may_lock(tmp_path: Path, machine: Path) -> None:
    before = os.umask(0o077)
    try:
        lock_device(tmp_path, "gpu0", variables=visible("gpu0")).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(machine.stat().st_mode) == 0o1777
    assert stat.S_IMODE((machine / "GPU-aaa.lock").stat().st_mode) == 0o666


def test_a_link_in_the_shared_folder_is_not_followed(tmp_path: Path, machine: Path) -> None:
    lock_device(tmp_path, "gpu0", variables=visible("gpu0")).close()
    precious = tmp_path / "precious"
    precious.write_text("x")
    (machine / "GPU-bbb.lock").symlink_to(precious)
    with pytest.raises(
        StartError, match=r"GPU-bbb\.lock cannot be locked: Too many levels of symbolic links; remove it"
    ):
        lock_device(tmp_path, "gpu1", 0, visible("gpu1"))
    assert precious.read_text() == "x"


CONTENDER = """
import os, sys
from pathlib import Path
from gpu.child import lock_device
assert "torch" not in sys.modules
state, device, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ids = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(times):
    with lock_device(state, device, 60):
        for one in ids:
            os.close(os.open(state / one, os.O_CREAT | os.O_EXCL))
        (state / f"{os.getpid()}.turn").touch()
        for one in ids:
            os.unlink(state / one)
print("done")
"""


@pytest.mark.parametrize("sets", [("gpu0+gpu1", "gpu1"), ("gpu0+gpu1", "gpu1+gpu0"), ("gpu0+gpu1", "gpu1+gpu2")])
def test_processes_never_hold_a_device_together_and_never_wait_for_each_other_for_ever(
    tmp_path: Path, sets: tuple[str, str]
) -> None:
    processes = []
    for device in sets:
        environment = {**os.environ, **visible(device), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-c", CONTENDER, str(tmp_path), device, "15"]
        processes.append(
            subprocess.Popen(words, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        said, _ = process.communicate(timeout=120)
        assert (process.returncode, said) == (0, "done\n")
    assert len(list(tmp_path.glob("*.turn"))) == 2
