"""The device's engine: announcing it, and having it serve a version's checkpoint."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from rl.errors import EngineUnavailable
from rl.protocol import Ready
from worker.child import resident
from worker.settings import settings


def announce(tick: Callable[[], object] = lambda: None) -> Ready:
    """Make sure that the child runs, and write down where it serves; ``tick`` is called once a second meanwhile.

    Raises:
        ChildLost: it could not be started.
    """
    from db import engines
    from db.session import transaction

    ready = resident().wait_ready(tick)
    name = f"{socket.gethostname()}/{ready.device}"
    with transaction() as session:
        engines.announce(session, name, ready.url, ready.device, ready.pid)
    return ready


def name_of(version: str, sha256: str) -> str:
    """What the engine calls a version's checkpoint that is not served to agents.

    The version's own name is the gateway's: the engine has it from the checkpoint that was decided on, and one name is
    never two folders'.
    """
    return f"{version}@{sha256[:12]}"


async def serve_version(name: str, uri: str, tick: Callable[[], object] = lambda: None) -> str:
    """Load the checkpoint at ``uri`` under that name. Returns the engine's URL. For ``tick`` see ``announce``.

    Names and checkpoints that were not asked for lately make room by themselves.

    Raises:
        EngineUnavailable: the engine does not answer, or cannot load it.
    """
    import httpx

    url = announce(tick).url
    headers = {"Authorization": f"Bearer {settings().engine_key}"}
    try:
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            answer = await client.post(
                f"{url}/v1/load_lora_adapter", json={"lora_name": name, "lora_path": uri}, headers=headers
            )
    except httpx.TransportError as error:
        raise EngineUnavailable(
            f"the engine at {url} does not answer: {error!r} (pid of this worker {os.getpid()})"
        ) from error
    if answer.status_code != 200:
        raise EngineUnavailable(f"the engine cannot load {name} from {uri}: {answer.text[:300]}")
    return url
