"""An agent whose calls take both ways: ``python talker.py URL SPOOL NAME EPISODES``.

It asks its model through the gateway, which stores the call, and reports the step with the same call. While there is no
answer it asks again under the same id. It says ``heard CALL_ID ANSWER`` for every answer that it acted on, gives
feedback on each episode and says ``flushed N`` after it, waits for a line of input, closes, and says
``waiting N rejected M``.
"""

from __future__ import annotations

import sys
import time

import openai

from recorder import Recorder
from recorder.trajectory import Turn

TURNS = 4


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def ask(turn: Turn, client: openai.OpenAI, call_id: str) -> str:
    request = {"model": "main", "messages": [{"role": "user", "content": f"state {turn.number}"}]}
    while True:
        try:
            answer = turn.chat(client, **request, extra_headers={"X-Call-Id": call_id})
        except openai.OpenAIError:
            time.sleep(0.05)
        else:
            return str(answer.choices[0].message.content)


def main() -> None:
    url, spool, name, episodes = sys.argv[1:]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)
    recorder = Recorder(url, spool=spool, linger_seconds=0.01)
    for episode in range(int(episodes)):
        with recorder.trajectory(agent_id=name, trajectory_id=f"{name}-{episode}") as told:
            for number in range(TURNS):
                with told.turn({"step": number}) as turn:
                    call_id = f"{name}-{episode}-call-{number}-0"
                    say("heard", call_id, ask(turn, client, call_id))
                    turn.reward(0.5)
        recorder.feedback(1.0, trajectory_id=told.trajectory_id)
        if recorder.flush(30.0):
            say("flushed", episode + 1)
    sys.stdin.readline()
    recorder.close(30.0)
    say("waiting", recorder.stats.waiting, "rejected", recorder.stats.rejected)


if __name__ == "__main__":
    main()
