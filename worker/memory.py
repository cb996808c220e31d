"""Whether the kernel killed a process of this control group because memory ran out."""

from __future__ import annotations

from pathlib import Path


def kills_for_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """How many processes of our control group the kernel has killed for memory so far; None where it does not tell.

    A killed process looks the same whoever killed it; this count tells the two apart.
    """
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    for number, controllers, path in groups:
        unified = number == "0" and not controllers
        if not unified and "memory" not in controllers.split(","):
            continue
        folder = root if unified else root / "memory"
        file = "memory.events" if unified else "memory.oom_control"
        # In a container the group's own folder is mounted as the root.
        for place in (folder / path.lstrip("/") / file, folder / file):
            if (count := _oom_kills(place)) is not None:
                return count
    return None


def _oom_kills(file: Path) -> int | None:
    try:
        fields = dict(line.split() for line in file.read_text().splitlines())
    except (OSError, ValueError):
        return None
    return int(fields["oom_kill"]) if "oom_kill" in fields else None
