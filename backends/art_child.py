"""The process that speaks with ART's service: an account and a command in on stdin, events out on a descriptor.

ART and what it imports print to stdout, which is a log here. The key is in memory alone.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import sys
from typing import Any, Final

from backends.art_account import Account
from backends.art_training import Training
from rl.art_groups import Chosen
from rl.protocol import REMOTE_COMMANDS, Event, Failed, PauseCommand, StoredCommand, TrainCommand

PR_SET_PDEATHSIG: Final = 1
CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 300.0
LONGEST_LINE: Final = 1 << 24


class Pipes:
    """The two ends towards the supervisor."""

    def __init__(self, descriptor: int, lines: asyncio.StreamReader) -> None:
        self.pausing = False
        self._descriptor, self._lines = descriptor, lines
        self._stored = asyncio.Event()

    def say(self, event: Event) -> None:
        """Write the event, whole."""
        left = memoryview(event.line())
        while left:
            left = left[os.write(self._descriptor, left) :]

    async def stored(self) -> None:
        """Until the supervisor says that what was said is stored."""
        await self._stored.wait()
        self._stored.clear()

    async def listen(self) -> None:
        """Heed what the supervisor says, and end with it."""
        while line := await self._lines.readline():
            command = REMOTE_COMMANDS.validate_json(line)
            if isinstance(command, StoredCommand):
                self._stored.set()
            elif isinstance(command, PauseCommand):
                self.pausing = True
        os._exit(1)


async def main(descriptor: int) -> None:
    """Carry out the one command that stdin has."""
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    account = Account.model_validate_json(await lines.readline())
    command = REMOTE_COMMANDS.validate_json(await lines.readline())
    if not isinstance(command, TrainCommand):
        raise TypeError(f"a training comes first, not {command.command}")
    pipes = Pipes(descriptor, lines)
    listening = asyncio.create_task(pipes.listen())
    listening.add_done_callback(_end_with)
    try:
        client = client_of(account)
    except Exception as error:
        words = f"ART cannot be used here ({type(error).__name__}); see the log beside the dataset"
        pipes.say(Failed(job=command.job, fence=command.fence, error="MissingDependency", message=words))
        raise
    await Training(client, groups_of, account, command, pipes).run()
    listening.cancel()


def _end_with(listening: asyncio.Task[None]) -> None:
    """Nobody can be heard any more: what waits for an answer would wait for ever."""
    if not listening.cancelled():
        sys.stderr.write(f"what the supervisor says cannot be read: {listening.exception()!r}\n")
        os._exit(1)


def client_of(account: Account) -> Any:
    """ART's own client of the service. It is not public, so its version is pinned and its requests are tested."""
    import httpx
    from art.serverless.client import Client

    client = Client(api_key=account.api_key.get_secret_value(), base_url=account.base_url)
    client.timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    return client


def groups_of(chosen: Chosen) -> list[Any]:
    """The chosen rows as ART's own objects."""
    import art
    from art.trajectories import History
    from art.types import Choice

    def heard(one: dict[str, Any]) -> dict[str, Any]:
        said = [
            Choice.model_validate(each) if "finish_reason" in each else each for each in one["messages_and_choices"]
        ]
        return one | {"messages_and_choices": said}

    def trajectory(one: dict[str, Any]) -> Any:
        others = [History(**heard(each)) for each in one["additional_histories"]]
        return art.Trajectory(**heard(one) | {"additional_histories": others})

    groups = [art.TrajectoryGroup([trajectory(one) for one in group]) for group in chosen.groups]
    for group in groups:
        group.model_dump_json()  # what cannot be written must not be found out in the middle of the request
    return groups


def _die_with(parent: int) -> None:
    """Be killed when the parent dies, also in the middle of a request."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("--events-fd", type=int, required=True)
    words.add_argument("--parent", type=int, required=True)
    told = words.parse_args()
    os.dup2(2, 1)
    _die_with(told.parent)
    asyncio.run(main(told.events_fd))
