"""An agent in a process of its own: ``python -m bench.collect.agent URL SPOOL NAME TURNS``.

It records so many turns in episodes of ten, one call in each, and flushes after every ten episodes. When the server
has answered for everything it prints one JSON object: when it began to record and when the last answer came, both on
the monotonic clock, and how many events were refused or wait. It gives up when an event was dropped before its flush.
"""

from __future__ import annotations

import json
import sys
import time

from recorder import Recorder, Trajectory

EPISODE, FLUSH = 10, 10
PATIENCE_SECONDS, LONGEST_SECONDS, POLL_SECONDS = 120.0, 500.0, 0.01
OBSERVATION = "You see: a red ball 3 steps ahead, a closed door to the left, nothing behind. " * 4


def call_id(episode: str, number: int) -> str:
    """The id of the call of that turn."""
    return f"{episode}/call-{number}"


def main(url: str, spool: str, name: str, turns: int) -> None:
    """Record, flush, and send everything."""
    recorder = Recorder(url, spool=spool, linger_seconds=0.02)
    began = time.monotonic()
    for index in range(turns // EPISODE):
        with recorder.trajectory(agent_id=name, trajectory_id=f"{name}-{index:06}", scenario_id="room") as episode:
            for number in range(EPISODE):
                _turn(episode, number)
        if (index + 1) % FLUSH == 0 and not recorder.flush(PATIENCE_SECONDS):
            sys.exit(f"{recorder.stats.dropped} events were dropped before they were flushed")
    is_safe = recorder.flush(PATIENCE_SECONDS)
    # Closing would leave what waits to a later process, at the first answer that does not come.
    while recorder.stats.waiting and time.monotonic() - began < LONGEST_SECONDS:
        time.sleep(POLL_SECONDS)
    ended, stats = time.monotonic(), recorder.stats
    if not (recorder.close() and is_safe):
        sys.exit(f"{stats.dropped} events were dropped before they were flushed")
    said = {"began": began, "ended": ended, "rejected": stats.rejected, "waiting": stats.waiting}
    sys.stdout.write(json.dumps(said) + "\n")


def _turn(episode: Trajectory, number: int) -> None:
    with episode.turn({"step": number}) as turn:
        request = {"model": "m", "messages": [{"role": "user", "content": f"{number}: {OBSERVATION}"}]}
        turn.record_call(request, f"go to the ball {number}", call_id=call_id(episode.trajectory_id, number))
        turn.act("MOVE", {"to": number}, success=True)
        turn.reward(0.5)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
