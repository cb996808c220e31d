from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from recorder import Recorder
from tests.recorder.doubles import Scripted

ASK = {"model": "m", "messages": [{"role": "user", "content": "where?"}], "temperature": 0.5, "max_tokens": 9}


def recorded(recorder: Recorder, server: Scripted) -> list[dict[str, Any]]:
    assert recorder.flush(30.0)
    return server.stored


def test_an_episode_is_a_start_its_steps_and_an_end(recorder: Recorder, server: Scripted) -> None:
    with recorder.trajectory(
        agent_id="agent-7",
        trajectory_id="e1",
        scenario_id="s1",
        window_id="2025-01-15T10:00",
        archetype="trader",
        consent=True,
        metadata={"city": "Zürich"},
    ) as episode:
        with episode.turn(state={"balance": 10}) as turn:
            turn.record_call(ASK, "left")
            turn.act("BUY_SHARES", {"ticker": "A"}, success=True, result={"price": 1.5})
            turn.reward(0.5)
            turn.reward(0.25)
            turn.outcome(resolved="YES")
        with episode.turn() as turn:
            turn.act("wait", error=ValueError("closed"))
    start, first, second, end = recorded(recorder, server)
    assert start.pop("startedAt") <= first["timestamp"] <= second["timestamp"] <= end.pop("endedAt")
    assert start == {
        "type": "startTrajectory",
        "trajectoryId": "e1",
        "agentId": "agent-7",
        "scenarioId": "s1",
        "windowId": "2025-01-15T10:00",
        "line": "main",
        "archetype": "trader",
        "consent": True,
        "metadata": {"city": "Zürich"},
    }
    (call,) = first.pop("llmCalls")
    assert first.pop("timestamp") <= call.pop("timestamp")
    assert call == {
        "callId": "e1-call-0-0",
        "model": "m",
        "messages": ASK["messages"],
        "temperature": 0.5,
        "response": "left",
    }
    assert first == {
        "type": "recordStep",
        "trajectoryId": "e1",
        "stepNumber": 0,
        "environmentState": {"balance": 10},
        "action": {
            "actionType": "BUY_SHARES",
            "success": True,
            "result": {"price": 1.5},
            "parameters": {"ticker": "A"},
        },
        "outcome": {"resolved": "YES"},
        "reward": 0.75,
    }
    assert (second["stepNumber"], second["reward"]) == (1, 0.0)
    assert second["action"] == {"actionType": "wait", "error": "closed"}
    assert end == {"type": "endTrajectory", "trajectoryId": "e1", "status": "completed"}


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError, "error"), (KeyboardInterrupt, "terminated"), (asyncio.CancelledError, "terminated")],
)
def test_an_exception_of_the_agent_passes_through_and_ends_the_episode(
    recorder: Recorder, server: Scripted, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), recorder.trajectory(agent_id="a") as episode, episode.turn() as turn:  # noqa: PT012
        turn.record_call(ASK, "left")
        raise error("with a secret")
    _, step, end = recorded(recorder, server)
    assert len(step["llmCalls"]) == 1
    assert step["outcome"] == {"error": error.__name__}
    assert (end["status"], end["metadata"]) == (status, {"error": error.__name__})


def test_what_an_agent_changes_later_was_recorded_as_it_was(recorder: Recorder, server: Scripted) -> None:
    state, messages = {"seen": [1]}, [{"role": "user", "content": "one"}]
    with recorder.trajectory(agent_id="a") as episode, episode.turn(state) as turn:
        turn.record_call({"model": "m", "messages": messages}, "two")
        state["seen"].append(2)
        messages.append({"role": "assistant", "content": "two"})
    step = recorded(recorder, server)[1]
    assert step["environmentState"] == {"seen": [1]}
    assert step["llmCalls"][0]["messages"] == [{"role": "user", "content": "one"}]


def test_bad_values_never_raise_and_are_counted(recorder: Recorder, server: Scripted) -> None:
    bad: Any = object()
    with recorder.trajectory(agent_id=bad, trajectory_id=bad) as episode:  # 2
        with episode.turn(state=bad) as turn:  # 2: no JSON, no mapping
            turn.reward(0.5)
            turn.reward(float("nan"))  # 1
            turn.reward(bad)  # 1
            turn.record_call(bad, bad)  # 1
            turn.act("BUY", bad)  # 2
        turn.act("late")  # 1
        turn.end()
        with episode.turn(number=-1):  # 1
            pass
    recorder.feedback(float("inf"), trajectory_id="e")  # 1
    recorder.feedback(1.0)  # 1
    recorder.record_step("", 0)  # 1
    recorder.end_trajectory(bad)  # 1
    start, step, end = recorded(recorder, server)
    assert recorder.stats.bad_values == 15
    assert start["agentId"] == "unknown"
    assert step["environmentState"] == {"value": "<object>"}
    assert step["action"] == {"actionType": "BUY", "parameters": {"value": "<object>"}}
    assert (step["reward"], step["outcome"]) == (0.5, {"badValues": ["reward"]})
    assert end["status"] == "completed"


def test_the_plain_functions_send_the_same_events(recorder: Recorder, server: Scripted) -> None:
    call = {"model": "m", "messages": [], "response": "left"}
    recorder.start_trajectory("e1", agent_id="a", started_at=0)
    recorder.record_step("e1", 4, state={"x": 1}, action={"actionType": "GO"}, reward=2, llm_calls=[call], timestamp=1)
    recorder.end_trajectory("e1", status="timeout", reward=3.5, metadata={"k": 1}, ended_at=2)
    recorder.feedback(1, trajectory_id="e1", comment="good", author="ann", feedback_id="f1", at=3)
    recorder.feedback(-1, call_id="e1-call-4-0", name="thumb", feedback_id="f2", at=4)
    epoch = "1970-01-01T00:00:0{}+00:00"
    assert recorded(recorder, server) == [
        {
            "type": "startTrajectory",
            "trajectoryId": "e1",
            "agentId": "a",
            "line": "main",
            "startedAt": epoch.format(0),
        },
        {
            "type": "recordStep",
            "trajectoryId": "e1",
            "stepNumber": 4,
            "timestamp": epoch.format(1),
            "environmentState": {"x": 1},
            "action": {"actionType": "GO"},
            "reward": 2.0,
            "llmCalls": [call],
        },
        {
            "type": "endTrajectory",
            "trajectoryId": "e1",
            "endedAt": epoch.format(2),
            "status": "timeout",
            "reward": 3.5,
            "metadata": {"k": 1},
        },
        {
            "type": "feedback",
            "feedbackId": "f1",
            "trajectoryId": "e1",
            "name": "rating",
            "value": 1.0,
            "comment": "good",
            "author": "ann",
            "at": epoch.format(3),
        },
        {
            "type": "feedback",
            "feedbackId": "f2",
            "callId": "e1-call-4-0",
            "name": "thumb",
            "value": -1.0,
            "at": epoch.format(4),
        },
    ]


def test_many_threads_record_their_own_episodes(recorder: Recorder, server: Scripted) -> None:
    def play(name: str) -> None:
        with recorder.trajectory(agent_id=name, trajectory_id=name) as episode:
            for _ in range(50):
                with episode.turn() as turn:
                    turn.reward(1.0)

    threads = [threading.Thread(target=play, args=(f"t{index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = recorded(recorder, server)
    assert len(events) == 8 * 52
    for name in ("t0", "t7"):
        own = [event for event in events if event["trajectoryId"] == name]
        assert [event.get("stepNumber") for event in own] == [None, *range(50), None], "in order"


def test_an_event_larger_than_a_request_is_dropped_and_counted(recorder: Recorder, server: Scripted) -> None:
    with recorder.trajectory(agent_id="a") as episode, episode.turn({"blob": "x" * (9 << 20)}):
        pass
    assert not recorder.flush(30.0), "something was dropped"
    assert recorder.flush(30.0)
    assert (server.types(), recorder.stats.dropped) == (["startTrajectory", "endTrajectory"], 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "127.0.0.1:8300"}, "url = '127.0.0.1:8300'"),
        ({"url": "ftp://host"}, "give the gateway's address"),
        ({"budget_seconds": 0}, "budget_seconds = 0: must be greater than 0"),
        ({"drop": "all"}, "drop = 'all': must be 'newest' or 'oldest'"),
        ({"key": "schlüssel"}, "key: must be printable ASCII; its value is not shown"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused_when_the_recorder_is_made(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Recorder(**{"url": "http://127.0.0.1:8300", **arguments})


def test_the_key_is_in_no_representation() -> None:
    recorder = Recorder("http://127.0.0.1:8300/v1/", "the-key")
    assert recorder._pipeline.options.endpoint == "http://127.0.0.1:8300/v1/ingest"
    assert "the-key" not in repr(recorder) + repr(recorder._pipeline.options) + repr(vars(recorder))
