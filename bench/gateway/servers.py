"""The processes that a call passes through, as they really run, and the rows that let it pass."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from bench.faults.expect import wait_until
from bench.faults.ground import Ground, fleet_environ
from db import decisions, dispatch, engines, lines, releases, versions
from db.session import transaction
from db.tables import Checkpoint, Version
from fleet.ports import free_port
from fleet.process import Child, Process
from fleet.processes import ROOT
from rl.config import LineConfig
from rl.release_plan import held_at
from rl.sequential import Rules

ENGINE_KEY, GATEWAY_KEY = "bench-engine", "bench-gateway"
LINE, BASE_MODEL = "main", "starter"
START_SECONDS = 120.0


class Server:
    """A process with an HTTP port of its own, which stays the same however often it is killed and started."""

    def __init__(self, ground: Ground, name: str, module: list[str], variables: Mapping[str, str], port: int) -> None:
        self.name, self.port, self.url = name, port, f"http://127.0.0.1:{port}"
        argv = [sys.executable, "-m", *module]
        environ = fleet_environ(ground, variables)
        self.child = Child(Process(name, argv, environ, cwd=ROOT, ready=self.answers), ground.home, ground.watchdog)

    @property
    def pid(self) -> int:
        """Of the process that runs.

        Raises:
            RuntimeError: none does.
        """
        if (pid := self.child.status.pid) is None:
            raise RuntimeError(f"{self.name} does not run")
        return pid

    def answers(self) -> bool:
        """Whether anything answers HTTP there, well or ill."""
        try:
            httpx.get(f"{self.url}/health", timeout=5.0, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            StartError: it ended instead.
        """
        self.child.start()
        wait_until(self._is_up, START_SECONDS, f"starting {self.name}; see {self.child.log}")

    def _is_up(self) -> bool:
        if self.child.ended() is not None:
            raise self.child.failure("ended")
        return self.child.is_ready()

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: self.child.ended() is not None, START_SECONDS, f"the end of {self.name}")

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self.child.stop()


def engine(ground: Ground, base: Path, name: str, port: int | None = None) -> Server:
    """``python -m gpu.engine`` with one folder, served as ``name``."""
    port = port or free_port()
    module = ["gpu.engine", "--base", str(base), "--name", name, "--port", str(port)]
    variables = {"RLFLEET_ENGINE_KEY": ENGINE_KEY, "RLFLEET_TORCH_THREADS": "1"}
    return Server(ground, f"engine-{port}", module, variables, port)


def gateway(ground: Ground, **variables: str) -> Server:
    """``python -m gateway`` with these variables; its capture is kept in a folder named by its port."""
    port = free_port()
    known = {
        "RLFLEET_GATEWAY_PORT": str(port),
        "RLFLEET_GATEWAY_KEYS": GATEWAY_KEY,
        "RLFLEET_ENGINE_KEY": ENGINE_KEY,
        "RLFLEET_SPOOL_DIR": str(ground.folder("spool", str(port))),
    }
    return Server(ground, f"gateway-{port}", ["gateway"], known | variables, port)


def add_line() -> int:
    """The line that calls name, without versions. Returns its id."""
    with transaction() as session:
        return lines.put(session, LINE, LineConfig(base_model=BASE_MODEL))


def add_version(folder: Path) -> str:
    """The line's next version, ready, whose weights lie in ``folder``. Returns its name."""
    with transaction() as session:
        line = lines.named(session, LINE)
        spec = dispatch.Spec("train", line.id, inputs={"weights": str(folder)}, config={}, queue="gpu")
        made = versions.add(
            session,
            line=line,
            prefix="bench",
            job_id=dispatch.request(session, spec),
            fence=1,
            checkpoints=[versions.NewCheckpoint(1, "full", str(folder), "", "0" * 64, {})],
            parent_id=None,
            base_model=BASE_MODEL,
            manifest={},
        )
        session.get_one(Checkpoint, made.checkpoint_id).uri = str(folder)
        versions.set_state(session, [made.id], "ready", "added by hand")
        return made.name


def release(version: str, share: int = 100) -> None:
    """Make the version the line's stable one for that share of agents."""
    with transaction() as session:
        line = lines.named(session, LINE)
        found: Version = versions.named(session, version)[0]
        decision_id = decisions.by_person(session, line.id, found.id, "released by hand", "bench")
        releases.replace_stable(session, line.id, found.id, decision_id, share, "released by hand")


def start_canary(version: str, share: int) -> int:
    """Make the version the line's canary for that share of agents, until a person ends it. Returns the release's id."""
    with transaction() as session:
        line = lines.named(session, LINE)
        found: Version = versions.named(session, version)[0]
        decision_id = decisions.by_person(session, line.id, found.id, "released by hand", "bench")
        return releases.start_canary(
            session, line.id, found.id, decision_id, held_at(share, Rules()), "released by hand"
        )


def announce(server: Server, name: str) -> None:
    """Let the gateway know an engine by that name."""
    with transaction() as session:
        engines.announce(session, name, server.url, "cpu", server.pid)
