"""How much memory a device has."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch

from gpu import device
from gpu.device import capacity, group_limit, in_use, kills, torch_devices

MIB = 1 << 20


@pytest.fixture
def group(tmp_path: Path) -> Path:
    (tmp_path / "own").write_text("0::/outer/inner\n")
    (tmp_path / "root/outer/inner").mkdir(parents=True)
    return tmp_path


def limit(group: Path) -> int | None:
    return group_limit(group / "root", group / "own")


def test_the_tightest_group_around_us_counts(group: Path) -> None:
    assert limit(group) is None
    (group / "root/outer/inner/memory.max").write_text("max\n")
    assert limit(group) is None
    (group / "root/outer/memory.max").write_text(f"{300 * MIB}\n")
    assert limit(group) == 300 * MIB
    (group / "root/outer/inner/memory.max").write_text(f"{200 * MIB}\n")
    assert limit(group) == 200 * MIB


def test_in_a_container_the_group_is_mounted_as_the_root(group: Path) -> None:
    (group / "root/memory.max").write_text(f"{100 * MIB}\n")
    (group / "own").write_text("0::/docker/abc\n")
    assert limit(group) == 100 * MIB


def test_groups_of_the_first_version(group: Path) -> None:
    (group / "own").write_text("5:cpu,cpuacct:/a\n4:memory:/a\n")
    (group / "root/memory/a").mkdir(parents=True)
    (group / "root/memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (group / "root/memory/a/memory.limit_in_bytes").write_text(f"{50 * MIB}\n")
    assert limit(group) == 50 * MIB
    assert group_limit(group / "root", group / "none") is None


def test_a_cpu_has_what_the_machine_and_its_limits_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(device, "group_limit", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (capacity(cpu), in_use(cpu)) == (physical, 0)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (300 * MIB, resource.RLIM_INFINITY))
    assert capacity(cpu) == 300 * MIB
    monkeypatch.setattr(device, "group_limit", lambda: 200 * MIB)
    assert capacity(cpu) == 200 * MIB


def test_the_kernels_kills_are_counted_where_the_group_is_mounted(group: Path) -> None:
    assert kills(group / "root", group / "own") is None
    (group / "root/memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert kills(group / "root", group / "own") == 2
    (group / "root/outer/inner/memory.events").write_text("oom_kill 5\n")
    assert kills(group / "root", group / "own") == 5
    assert kills(group / "root", group / "none") is None


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("cpu", ["cpu"]),
        ("cpu0+cpu1", ["cpu", "cpu"]),
        ("gpu3", ["cuda:0"]),
        ("gpu3+gpu5", ["cuda:0", "cuda:1"]),
        ("gpu1.0+gpu1.1", ["cuda:0", "cuda:1"]),
        ("cuda:1+cuda:3", ["cuda:1", "cuda:3"]),
    ],
)
def test_the_devices_of_a_plan_by_torchs_names(name: str, devices: list[str]) -> None:
    assert torch_devices(name) == [torch.device(one) for one in devices]
