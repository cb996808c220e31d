"""The user's own function that says right or wrong of an answer, in a child process with a time limit a call.

It may import anything, wait for anything and print anything; what it raises is no verdict.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rl.errors import ChildLost, InvalidSettings

FIELD = "held_out.verifier"
START_SECONDS = 60.0
"""What the function's module gets to be imported."""
LONGEST_LINE = 1 << 20
MODULE = "backends.verifier_child"


class FunctionVerifier:
    """One child that calls ``module:function``. Use it as an async context manager; one call at a time.

    The child is started with the first call, and anew after one that took longer than ``seconds``.
    """

    def __init__(self, setting: str, seconds: float) -> None:
        self._setting, self._seconds = setting, seconds
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def call(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """``{"returned": value}``, as JSON has it, or ``{"failed": reason}`` where it raised or took too long.

        Raises:
            InvalidSettings: the function cannot be imported or called.
            ChildLost: the child ended in the middle of a call.
        """
        process = self._process or await self._start()
        if process.stdin is None:
            raise ChildLost("the verifier's child has no pipes")
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            await process.stdin.drain()
            return await self._line(process, self._seconds)
        except TimeoutError:
            await self._stop()
            return {"failed": f"it took longer than {self._seconds:g} s"}
        except (ConnectionError, BaseExceptionGroup) as error:
            await self._stop()
            raise ChildLost("the verifier's child ended in the middle of a call") from error

    async def _start(self) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            MODULE,
            self._setting,
            str(os.getpid()),
            env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
        )
        try:
            said = await self._line(self._process, START_SECONDS)
        except (TimeoutError, ChildLost) as error:
            said = {"refused": f"its module was not imported ({type(error).__name__})"}
        if "refused" in said:
            await self._stop()
            raise InvalidSettings(FIELD, self._setting, f"{said['refused']}; put it on the path of the gpu workers")
        return self._process

    async def _line(self, process: asyncio.subprocess.Process, seconds: float) -> dict[str, Any]:
        if process.stdout is None:
            raise ChildLost("the verifier's child has no pipes")
        async with asyncio.timeout(seconds):
            try:
                line = await process.stdout.readline()
            except ValueError:
                await self._stop()
                return {"failed": f"it returned more than {LONGEST_LINE} characters"}
        if not line:
            await self._stop()
            raise ChildLost("the verifier's child ended in the middle of a call")
        found: dict[str, Any] = json.loads(line)
        return found

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()
