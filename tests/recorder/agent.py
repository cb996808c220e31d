"""An agent in a process of its own: ``python agent.py MODE URL SPOOL NAME [COUNT]``.

``play``   records steps for ever in episodes of five, flushes after each, and says ``flushed N`` when N steps are safe.
``count``  records COUNT steps, flushes, says ``flushed COUNT``, and waits until its input ends; then closes.
``drain``  records nothing, sends what others left, and says ``waiting N``.
``fork``   records in a parent and in a child that it forks with a turn open; both flush.
"""

from __future__ import annotations

import os
import sys

from recorder import Recorder
from recorder.trajectory import Trajectory

EPISODE = 5


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def step(episode: Trajectory, number: int) -> None:
    with episode.turn({"step": number}) as turn:
        request = {"model": "m", "messages": [{"role": "user", "content": f"state {number}"}]}
        turn.record_call(request, f"answer {number}")
        turn.act("MOVE", {"to": number}, success=True)
        turn.reward(0.5)


def play(recorder: Recorder, name: str, steps: int | None) -> None:
    done = 0
    while steps is None or done < steps:
        with recorder.trajectory(agent_id=name, trajectory_id=f"{name}-{done // EPISODE}") as episode:
            for _ in range(EPISODE):
                step(episode, done % EPISODE)
                done += 1
        if recorder.flush(30.0):
            say("flushed", done)


def fork(recorder: Recorder, name: str) -> None:
    episode = recorder.trajectory(agent_id=name, trajectory_id=f"{name}-parent")
    step(episode, 0)
    if (child := os.fork()) == 0:
        with recorder.trajectory(agent_id=name, trajectory_id=f"{name}-child") as own:
            step(own, 0)
        is_safe = recorder.flush(30.0)
        say("child", is_safe, recorder.stats.recorded)
        os._exit(0 if recorder.close(30.0) else 1)
    step(episode, 1)
    episode.end()
    _, status = os.waitpid(child, 0)
    say("parent", recorder.flush(30.0), recorder.stats.recorded, os.waitstatus_to_exitcode(status))


def main() -> None:
    mode, url, spool, name, *rest = sys.argv[1:]
    recorder = Recorder(url, spool=spool, linger_seconds=0.01)
    if mode == "play":
        play(recorder, name, None)
    elif mode == "count":
        play(recorder, name, int(rest[0]))
        sys.stdin.read()
    elif mode == "fork":
        fork(recorder, name)
    else:
        recorder.flush(30.0)
    recorder.close(30.0)
    say("waiting", recorder.stats.waiting)


if __name__ == "__main__":
    main()
