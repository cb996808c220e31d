"""The Java process behind ``sciworld``, and what becomes of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeVar

import pytest

from environments.sciworld import simulator as simulators
from environments.sciworld.environment import Science, SciWorld, variations
from environments.sciworld.gateway import Gateway, GatewayError, Reference
from environments.sciworld.pool import Pool, pool
from environments.sciworld.simulator import Simulator
from rl.errors import ChildLost, MissingDependency
from rl.records import ScenarioRef

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

Option = TypeVar("Option")

needs_java = pytest.mark.skipif(
    shutil.which("java") is None or find_spec("scienceworld") is None,
    reason="needs Java and rlfleet[sciworld]",
)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One for the tests that leave it whole."""
    one = Simulator()
    yield one
    one.end()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for looked_up in (simulators.java, simulators.classpath):
        looked_up.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingDependency, match="default-jre-headless"):
        Simulator()
    monkeypatch.setattr(simulators, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"rlfleet\[sciworld\]"):
        simulators.classpath()
    for looked_up in (simulators.java, simulators.classpath):
        looked_up.cache_clear()


@needs_java
def test_a_simulator_that_hangs_is_killed() -> None:
    simulator = Simulator()
    simulator._gateway._socket.settimeout(0.2)
    os.kill(simulator.process_id, signal.SIGSTOP)
    with pytest.raises(ChildLost):
        simulator.load("melt", 0)
    assert not simulator.alive()


@needs_java
def test_it_ends_with_the_process_that_started_it() -> None:
    program = (
        "import time; from environments.sciworld.simulator import Simulator; "
        "print(Simulator().process_id, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process_id = int(parent.stdout.readline())
        os.kill(process_id, 0)
        parent.kill()
    give_up = time.monotonic() + 60
    while _runs(process_id):
        assert time.monotonic() < give_up
        time.sleep(0.05)


def _runs(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


@needs_java
def test_a_forked_child_lets_go(simulator: Simulator) -> None:
    ours = pool()
    child = os.fork()
    if child == 0:
        closed = simulator._java.stdin is not None and simulator._java.stdin.closed
        os._exit(0 if closed and pool() is not ours else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert simulator.load("melt", 0).startswith("Your task is to melt")


@needs_java
def test_who_does_not_know_the_token_is_refused(simulator: Simulator) -> None:
    host, port = simulator._gateway._socket.getpeername()
    assert host == "127.0.0.1"
    with pytest.raises(GatewayError):
        Gateway(port, "guessed", 5.0)


@needs_java
def test_what_java_raises_is_an_error_and_the_connection_stays(simulator: Simulator) -> None:
    with pytest.raises(GatewayError, match="Method nothing"):
        simulator._gateway.call(Reference("z:java.lang.System"), "nothing")
    assert simulator._gateway.call(Reference("z:java.lang.Math"), "max", 2, 3) == 3


@needs_java
@pytest.mark.parametrize("text", ["", "a\nb", "\\n", "\\\\n\r", "é\u202e😀", '"s', "e", "\x00"])
def test_text_arrives_as_it_was_sent(simulator: Simulator, text: str) -> None:
    system = Reference("z:java.lang.System")
    simulator._gateway.call(system, "setProperty", "test", text)
    assert simulator._gateway.call(system, "getProperty", "test") == text


class Listing(Random):
    """Keeps what it was asked to choose from."""

    def choice(self, seq: SupportsLenAndGetItem[Option]) -> Option:
        self.options = [seq[place] for place in range(len(seq))]
        return seq[0]


@needs_java
def test_what_could_be_done_is_listed_in_the_same_words_however_often_it_is_asked(simulator: Simulator) -> None:
    """The simulator names cups and tables by chance as it lists what could be done, and counts on from there."""
    ref = ScenarioRef(environment="sciworld", split="train", seed=119)
    episode = Science(SciWorld(), ref, variations().deal(ref), Pool(1, lambda: simulator))
    for _ in range(3):
        episode.step(episode.oracle())
    first, second = Listing(), Listing()
    assert episode.guess(first) == episode.guess(second)
    assert first.options == second.options
    assert len(first.options) > 1000
