"""One process of ScienceWorld's simulator."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

from environments.sciworld.gateway import Gateway, GatewayError, Reference, Value
from rl.errors import ChildLost, MissingDependency

Answer = TypeVar("Answer")

OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:hashCode=2",
)
"""The last gives all objects one hash. The simulator keeps things in sets that are ordered by it, and what a room holds
would be listed in another order each time."""

INHERITED = ("PATH", "JAVA_HOME", "HOME", "LANG", "TMPDIR")
START_SECONDS = 120.0
PATIENCE_SECONDS = 60.0
"""For one call; the longest is that for a gold path, up to half a minute on a busy machine."""

CANNOT = "That cannot be done."

_running: weakref.WeakSet[Simulator] = weakref.WeakSet()


class State(NamedTuple):
    """What an action led to. The score is at most 1, and negative after a fatal mistake."""

    observation: str
    score: float
    completed: bool


class Simulator:
    """A Java process that ends with this one: it does when its standard input does, however this process dies.

    ``player`` is whose game it holds, for the pool.
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            MissingDependency: Java or the package is not installed.
            ChildLost: it did not start in time.
        """
        self.player: object = None
        self._folder = tempfile.mkdtemp(prefix="rlfleet-sciworld-")  # it writes a table to where it is started
        self._java = subprocess.Popen(
            [java(), *OPTIONS, "-cp", classpath(), "py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
            cwd=self._folder,
            bufsize=0,
        )
        _running.add(self)
        try:
            port, token = self._line(), self._line()
            self._gateway = Gateway(int(port), token, PATIENCE_SECONDS)
            self._quiet()
            self._game = self._gateway.make("scienceworld.runtime.pythonapi.PythonInterface")
        except (OSError, ValueError, GatewayError) as error:
            self.end()
            raise ChildLost(f"ScienceWorld's simulator did not start in {START_SECONDS:.0f} s: {error}") from error

    @property
    def process_id(self) -> int:
        """Of the Java process."""
        return self._java.pid

    def load(self, task: str, variation: int, gold: bool = False) -> str:
        """Begin a game, and tell its task and what there is to see.

        Raises:
            ChildLost: the process ended or does not answer, as in all that follow.
        """
        self._call(str, "load", task, variation, "", gold)
        return f"{self._call(str, 'getTaskDescription')}\n{self._call(str, 'freeActionLook')}".strip()

    def step(self, action: str) -> State:
        """Take an action. The simulator understands no more than its own words, and says so."""
        try:
            observation = self._call(str, "step", action)
        except GatewayError:
            observation = CANNOT
        return State(observation.strip(), self._call(float, "getScore"), self._call(bool, "getCompleted"))

    def gold(self) -> list[str]:
        """The path that solves the game, if it was loaded with it."""
        actions = self._answer(lambda: self._gateway.call(self._game, "getGoldActionSequence"))
        return str(self._answer(lambda: self._gateway.call(STRINGS, "join", "\n", actions))).split("\n")

    def possible(self) -> list[str]:
        """Every action that the simulator would understand here."""
        answer = json.loads(self._call(str, "getValidActionObjectCombinationsJSON"))
        return sorted({option["action"] for option in answer["validActions"]})

    def variations(self, task: str) -> int:
        """How many variations a task has."""
        return self._call(int, "getTaskMaxVariations", task)

    def alive(self) -> bool:
        return self._java.poll() is None

    def end(self) -> None:
        """Kill it. It may be called twice."""
        if hasattr(self, "_gateway"):
            self._gateway.close()
        self._java.kill()
        self._java.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def forget(self) -> None:
        """In a child after a fork: let go of the pipe whose end ends the process."""
        for pipe in (self._java.stdin, self._java.stdout):
            if pipe is not None:
                pipe.close()

    def _call(self, kind: Callable[..., Answer], method: str, *arguments: Value) -> Answer:
        return kind(self._answer(lambda: self._gateway.call(self._game, method, *arguments)) or 0)

    def _answer(self, call: Callable[[], Value]) -> Value:
        try:
            return call()
        except (OSError, ValueError) as error:
            self.end()
            raise ChildLost(f"ScienceWorld's simulator ended or did not answer in {PATIENCE_SECONDS:.0f} s") from error

    def _line(self) -> str:
        """The next line that the process says of itself as it starts."""
        out = self._java.stdout
        said = bool(out and select.select([out], [], [], START_SECONDS)[0])
        return out.readline().decode().strip() if said and out else ""

    def _quiet(self) -> None:
        """Let the simulator print nothing: it would stop once the pipe that nobody reads is full."""
        nowhere = self._gateway.call(Reference("z:java.io.OutputStream"), "nullOutputStream")
        self._gateway.call(
            Reference("z:java.lang.System"), "setOut", self._gateway.make("java.io.PrintStream", nowhere)
        )


STRINGS = Reference("z:java.lang.String")


def _forget_all() -> None:
    for simulator in list(_running):
        simulator.forget()


os.register_at_fork(after_in_child=_forget_all)


@cache
def java() -> str:
    """Where the program is.

    Raises:
        MissingDependency: there is none.
    """
    found = shutil.which("java")
    if found is None:
        raise MissingDependency("sciworld needs Java 11 or newer on PATH: apt-get install default-jre-headless")
    return found


@cache
def classpath() -> str:
    """The gateway server and the simulator. The simulator has an older server too, that lets in whoever connects.

    Raises:
        MissingDependency: the package is not installed.
    """
    found = find_spec("scienceworld")
    if found is None or found.submodule_search_locations is None:
        raise MissingDependency("sciworld needs ScienceWorld's simulator: pip install 'rlfleet[sciworld]'")
    server = import_module("py4j.java_gateway").find_jar_path()
    return os.pathsep.join([server, str(Path(found.submodule_search_locations[0]) / "scienceworld.jar")])
