"""What recording costs the process that records: ``PYTHONPATH=. python tests/recorder/cost.py [TURNS]``.

A turn has a state, one call with 2,000 characters of prompt and 200 of answer, an action and a reward, and is sent to
an ingest in a process of its own. Times are CPU time: of the agent's thread, and of the process with its two threads.
``encode_mib_us`` is one turn whose state is 1 MiB of numbers: encoding is the one thing that no budget bounds.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recorder import Recorder

REQUEST = {
    "model": "m",
    "messages": [{"role": "system", "content": "s" * 1_000}, {"role": "user", "content": "u" * 1_000}],
}
STATE = {"balance": 100.0, "positions": [{"ticker": "A", "size": 3}], "day": 4}


def play(recorder: Recorder, turns: int) -> None:
    with recorder.trajectory(agent_id="a") as episode:
        for _ in range(turns):
            with episode.turn(STATE) as turn:
                turn.record_call(REQUEST, "r" * 200)
                turn.act("BUY", {"ticker": "A", "size": 1}, success=True)
                turn.reward(0.5)


@contextmanager
def ingest(folder: Path) -> Iterator[str]:
    """The stand-in server in a process of its own; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("ingest_server.py")
    words = [sys.executable, str(script), str(port), str(folder / "ingest.sqlite")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def measure(turns: int, folder: Path) -> dict[str, float]:
    """Microseconds of CPU a turn, and what became of the events."""
    with ingest(folder) as url:
        with Recorder(url, spool=folder / "spool") as warm:
            play(warm, 10)
        recorder = Recorder(url, spool=folder / "spool", buffer_bytes=256 << 20)
        thread, process = time.thread_time(), time.process_time()
        play(recorder, turns)
        in_thread = time.thread_time() - thread
        is_safe = recorder.close(600.0)
        in_process = time.process_time() - process
        stats = recorder.stats
        assert is_safe
        assert (stats.sent, stats.waiting, stats.dropped) == (turns + 2, 0, 0)
    return {"agent_us": 1e6 * in_thread / turns, "process_us": 1e6 * in_process / turns, "turns": turns}


def measure_large(folder: Path) -> float:
    """Microseconds of CPU in the agent's thread for a turn of 1 MiB; no server answers."""
    state = {"numbers": [0.123456789] * (2**20 // 12)}
    recorder = Recorder("http://127.0.0.1:9", spool=folder / "large")
    with recorder.trajectory(agent_id="a") as episode:
        before = time.thread_time()
        with episode.turn(state):
            pass
        spent = time.thread_time() - before
    recorder.close(0.1)
    return 1e6 * spent


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as folder:
        found = {**measure(turns, Path(folder)), "encode_mib_us": measure_large(Path(folder))}
    sys.stdout.write(json.dumps({"schema": 1, **found}) + "\n")


if __name__ == "__main__":
    main()
