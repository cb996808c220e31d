from __future__ import annotations

from pathlib import Path

import pytest

from worker.memory import kills_for_memory


def test_the_unified_hierarchy_counts_kills_of_our_own_group(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/fleet/gpu0\n")
    group = tmp_path / "root/fleet/gpu0"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\nhigh 3\nmax 12\noom 2\noom_kill 5\noom_group_kill 0\n")
    assert kills_for_memory(tmp_path / "root", own) == 5


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/docker/0123\n")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/memory.events").write_text("oom 1\noom_kill 1\n")
    assert kills_for_memory(tmp_path / "root", own) == 1


def test_the_older_hierarchy_has_another_file(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("9:name=systemd:/\n4:memory:/fleet\n3:cpu,cpuacct:/\n0::/\n")
    group = tmp_path / "root/memory/fleet"
    group.mkdir(parents=True)
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert kills_for_memory(tmp_path / "root", own) == 4


@pytest.mark.parametrize("content", ["oom 1\n", "no numbers\nat all here\n", "oom_kill_disable 0\nunder_oom 0\n"])
def test_a_kernel_that_does_not_count_tells_nothing(tmp_path: Path, content: str) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/\n")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/memory.events").write_text(content)
    assert kills_for_memory(tmp_path / "root", own) is None


def test_a_system_without_control_groups_tells_nothing(tmp_path: Path) -> None:
    assert kills_for_memory(tmp_path, tmp_path / "missing") is None
