"""The device's engine: announcing it, and having it serve a checkpoint; a service serves what lies with it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from rl.errors import EngineUnavailable
from rl.protocol import Ready
from rl.remote import is_remote
from tasks.stored import fetched
from worker.child import resident
from worker.settings import settings


class Served(NamedTuple):
    """Where a version answers: the server's URL and key, and what it calls the version."""

    url: str
    key: str
    model: str


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


async def serve_version(name: str, uri: str, tick: Callable[[], object] = lambda: None) -> Served:
    """Load the checkpoint at ``uri`` under that name. For ``tick`` see ``announce``.

    Names and checkpoints that were not asked for lately make room by themselves. One that lies with a service answers
    there under its own name, and no child is started.

    Raises:
        EngineUnavailable: the engine does not answer, or cannot load it.
        InvalidSettings: the key of the service is not set here.
        StoreUnavailable, StoreRefused: it is not on this host; see ``tasks.stored``.
    """
    import httpx

    if is_remote(uri):
        return _at_service(uri)
    url, folder = announce(tick).url, await fetched(uri)
    headers = {"Authorization": f"Bearer {settings().engine_key}"}
    try:
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            answer = await client.post(
                f"{url}/v1/load_lora_adapter", json={"lora_name": name, "lora_path": folder}, headers=headers
            )
    except httpx.TransportError as error:
        raise EngineUnavailable(
            f"the engine at {url} does not answer: {error!r} (pid of this worker {os.getpid()})"
        ) from error
    if answer.status_code != 200:
        raise EngineUnavailable(f"the engine cannot load {name} from {uri}: {answer.text[:300]}")
    return Served(url, settings().engine_key, name)


def _at_service(uri: str) -> Served:
    from backends.art_account import account

    there = account()
    return Served(there.base_url, there.api_key.get_secret_value(), uri)
