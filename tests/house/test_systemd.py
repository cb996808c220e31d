from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.processes import ROOT, Plan, processes
from fleet.settings import FleetSettings
from worker.settings import WorkerSettings

UNITS = ROOT / "docker" / "systemd"
INSTANCES = {"worker": ("collect", "score", "maint"), "gpu": ("0",), "beat": ("1", "2")}
HARDENED = ("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "CapabilityBoundingSet=", "UMask=0077")


class Unit:
    """One instance of a unit, its specifiers replaced."""

    def __init__(self, path: Path, instance: str = "") -> None:
        self.name = path.name.replace("@", f"@{instance}") if instance else path.name
        text = path.read_text().replace("%%", "\0").replace("%i", instance).replace("\0", "%")
        assert "%i" not in text, path
        self.lines = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]

    def all(self, key: str) -> list[str]:
        return [value for name, _, value in (line.partition("=") for line in self.lines) if name == key]

    def one(self, key: str) -> str:
        (value,) = self.all(key)
        return value

    @property
    def environ(self) -> dict[str, str]:
        pairs = (word.partition("=") for line in self.all("Environment") for word in shlex.split(line))
        return {name: value for name, _, value in pairs}

    @property
    def command(self) -> list[str]:
        return [
            re.sub(r"\$\{(\w+)\}", lambda at: self.environ[at[1]], word) for word in shlex.split(self.one("ExecStart"))
        ]


def _units() -> Iterator[Unit]:
    for path in sorted(UNITS.glob("rlfleet-*.service")):
        found = re.fullmatch(r"rlfleet-(\w+)@\.service", path.name)
        for instance in INSTANCES[found[1]] if found else ("",):
            yield Unit(path, instance)


ALL = list(_units())
LASTING = [unit for unit in ALL if unit.name != "rlfleet-migrate.service"]


def _started() -> dict[str, list[str]]:
    """What `rlfleet up` would start on a machine with one GPU, each without the interpreter."""
    where = Path("/var/lib/rlfleet")
    plan = Plan({}, ("GPU-1",), "http://127.0.0.1:8300", "http://127.0.0.1:5555", where)
    return {one.name: list(one.argv[1:]) for one in processes(plan)}


def test_they_start_what_rlfleet_up_starts() -> None:
    said = {" ".join(unit.command[1:]) for unit in LASTING}
    assert said == {" ".join(words) for words in _started().values()}
    assert {unit.command[0] for unit in ALL} == {"/opt/rlfleet/.venv/bin/python"}


@pytest.mark.parametrize("unit", LASTING, ids=lambda unit: unit.name)
def test_each_comes_back_and_may_drain(unit: Unit) -> None:
    assert (unit.one("Restart"), unit.one("KillMode"), unit.one("StartLimitIntervalSec")) == ("always", "mixed", "0")
    if "REMAP_SIGTERM" in unit.environ:
        assert float(unit.one("TimeoutStopSec")) >= float(unit.environ["RLFLEET_DRAIN_SECONDS"]) + 30
    assert ("worker" in unit.command) == (unit.environ.get("REMAP_SIGTERM") == "SIGQUIT")


def test_flower_shows_only_unless_the_file_of_variables_says_otherwise() -> None:
    (flower,) = (unit for unit in ALL if unit.name == "rlfleet-flower.service")
    assert flower.environ["RLFLEET_FLOWER_READ_ONLY"] == "True"
    assert flower.one("ExecStart").endswith("--read_only=${RLFLEET_FLOWER_READ_ONLY}")
    names = [line.partition("=")[2].partition("=")[0] for line in flower.lines if line.startswith("Environment")]
    assert names.index("RLFLEET_FLOWER_READ_ONLY") < names.index("/etc/rlfleet/rlfleet.env")


@pytest.mark.parametrize("unit", ALL, ids=lambda unit: unit.name)
def test_each_is_an_account_of_its_own_without_rights(unit: Unit) -> None:
    assert set(HARDENED) <= set(unit.lines)
    assert unit.one("User") == "rlfleet"
    assert unit.all("EnvironmentFile")[0] == "/etc/rlfleet/rlfleet.env"
    assert unit.environ["RLFLEET_ENV"] == "production"
    assert "PASSWORD" not in " ".join(unit.lines)


def test_only_the_gpu_worker_sees_a_device() -> None:
    owners = {unit.name: unit for unit in ALL if unit.environ.get("RLFLEET_DEVICE")}
    assert list(owners) == ["rlfleet-gpu@0.service"]
    gpu = owners["rlfleet-gpu@0.service"]
    assert gpu.environ["RLFLEET_DEVICE"] == "gpu0"
    assert gpu.all("EnvironmentFile")[1] == "/etc/rlfleet/gpu0.env", "it names the GPU by its UUID"
    # Either would hide the devices, or the folder of the locks on them, which all users of the machine share.
    assert not {"PrivateDevices=yes", "PrivateTmp=yes", "ProtectClock=yes"} & set(gpu.lines)
    assert gpu.one("ReadWritePaths") == "/tmp"


def test_who_plays_environments_may_make_sandboxes_and_nobody_else() -> None:
    """bubblewrap makes seven kinds of namespaces, asks for the loopback by netlink, and sets a host name."""
    may = {unit.name for unit in ALL if unit.all("RestrictNamespaces") == ["cgroup ipc mnt net pid user uts"]}
    assert may == {f"rlfleet-worker@{queue}.service" for queue in INSTANCES["worker"]} | {"rlfleet-gpu@0.service"}
    for unit in ALL:
        assert ("AF_NETLINK" in unit.one("RestrictAddressFamilies").split()) == (unit.name in may)
        assert ("ProtectHostname=yes" in unit.lines) == (unit.name not in may)
        assert (unit.one("RestrictNamespaces") == "yes") == (unit.name not in may)


def test_they_set_variables_that_exist() -> None:
    known = {str(field.validation_alias) for field in WorkerSettings.model_fields.values()}
    known |= {str(field.alias) for field in FleetSettings.model_fields.values()}
    known |= {f"RLFLEET_{name}_{part}" for name in ("GATEWAY", "ADMIN") for part in ("HOST", "PORT")}
    assert {name for unit in ALL for name in unit.environ if name.startswith("RLFLEET_")} <= known


@pytest.mark.platform
def test_systemd_takes_them(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    for path in UNITS.iterdir():
        text = path.read_text().replace("/opt/rlfleet/.venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(text)
    named = [tmp_path / unit.name for unit in ALL]
    for path in named:
        if not path.exists():
            path.write_bytes((tmp_path / re.sub("@.*[.]", "@.", path.name)).read_bytes())
    argv = [program, "verify", "--man=no", "--recursive-errors=yes", *map(str, [*named, tmp_path / "rlfleet.target"])]
    run = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert [line for line in run.stderr.splitlines() if "rlfleet" in line] == []
    assert run.returncode == 0, run.stderr
