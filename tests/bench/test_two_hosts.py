"""Two hosts are network namespaces with a link between them, and the rows that cut it leave each effect there once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.faults import hosts
from bench.faults.hosts import Host
from tests.worker.doubles import wait_until

ROOT = Path(__file__).parents[2]
EFFECTS = {29: 5, 30: 2, 31: 2, 32: 1}
"""How many each row asks for."""
HEAR = """
import socket, sys
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=120)
while said := link.recv(100):
    print(socket.gethostname(), said.decode(), flush=True)
"""

pytestmark = pytest.mark.platform


@pytest.fixture
def host() -> Iterator[Host]:
    if why := hosts.missing():
        pytest.skip(why)
    with Host("host-b") as made:
        yield made


def test_what_is_said_on_a_link_that_is_cut_arrives_when_it_works_again(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "heard"
    with socket.create_server((host.near, 0)) as server, log.open("wb") as heard:
        words = [sys.executable, "-c", HEAR, host.near, str(server.getsockname()[1])]
        listener = subprocess.Popen([*host.enter, *words], stdout=heard)
        link, (address, _) = server.accept()
        with link:
            for number, cut in enumerate((host.silence, host.unplug)):
                cut()
                link.sendall(f"after cut {number}".encode())
                assert not reaches(host, server)
                host.mend()
                assert reaches(host, server)
                wait_until(lambda number=number: log.read_text().count("after cut") == number + 1, 120)
        assert listener.wait(120) == 0
    assert (address, log.read_text()) == (host.far, "host-b after cut 0\nhost-b after cut 1\n")


def reaches(host: Host, server: socket.socket) -> bool:
    """Whether a new connection from the other host succeeds, in three tries of a second each."""
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)"
    words = [sys.executable, "-c", connect, host.near, str(server.getsockname()[1])]
    return any(subprocess.run([*host.enter, *words], capture_output=True, check=False).returncode == 0 for _ in "abc")


def test_nothing_is_left_of_a_host(host: Host) -> None:
    device = Path("/sys/class/net") / host._device
    assert device.exists()
    host.__exit__(None, None, None)
    assert not device.exists()
    assert host._holder.returncode == 0
    host.__enter__()


def test_a_machine_without_the_programs_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hosts.missing() == "hostname, ip, nsenter, unshare not found: install hostname, iproute2 and util-linux"


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("number", EFFECTS)
def test_a_link_that_is_cut_between_two_hosts_costs_no_effect_and_doubles_none(
    tmp_path: Path, seed: int, number: int
) -> None:
    """Both hosts are namespaces here: the harness and the servers get one of their own too."""
    if why := hosts.missing():
        pytest.skip(why)
    path = tmp_path / "faults.json"
    harness = f"{sys.executable} -m bench.faults --rows {number} --no-raw --seed {seed} --json {path}"
    environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    argv = ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {harness}"]
    run = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=650, check=False)
    assert run.returncode == 0, run.stderr
    (row,) = json.loads(path.read_text())["rows"]
    ours = row["ours"]
    assert (ours["jobs"], ours["effects"]) == (EFFECTS[number], EFFECTS[number])
    assert all(ours["invariants"].values())
