"""What the service of Weights & Biases is asked: whether it answers, and whether it has what was sent.

The client counts a recording as sent also where the service refused some of it. So what the client wrote down is read,
and then the service is asked for the run's lines, for its summary, which says what order it is from, and its models.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from backends.wandb_orders import COPY

ANSWER_SECONDS: Final = 10.0
CONFIRM_SECONDS: Final = 60.0
"""What the service gets to count what it took."""
LINES: Final = """
query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { historyLineCount summaryMetrics }
  }
}
"""
"""The client's own query before it resumes a run, of what is needed."""
MODEL: Final = """
query ArtifactState($project: String!, $entity: String, $name: String!) {
  project(name: $project, entityName: $entity) { artifact(name: $name) { state metadata } }
}
"""
VIEWER: Final = "query Viewer { viewer { entity } }"
REFUSED: Final = ("sender: failed to log artifact", "filestream: fatal error")
"""How the messages begin that the client logs when the service does not take something, before it goes on."""


class NotCopied(Exception):
    """Why a run is not where it should be."""


def unusable(url: str) -> str:
    """Why nothing can be sent to the service now; nothing where it answers."""
    try:
        _ask(url, VIEWER, {})
    except NotCopied as error:
        return str(error)
    return ""


def refusal(place: Path) -> str:
    """What the service refused by the client's logs below ``place``, without signatures of addresses; or nothing."""
    for path in sorted(place.rglob("debug-sync*.log")):
        for line in path.read_text(errors="replace").splitlines():
            try:
                said = str(json.loads(line)["msg"])
            except (ValueError, KeyError, TypeError):
                continue
            if said.startswith(REFUSED):
                return re.sub(r"\?\S+", "", " ".join(said.split()))[:300]
    return ""


def confirm(url: str, order: Mapping[str, Any]) -> None:
    """Raises ``NotCopied``: the service does not have all that was sent, also after some time."""
    until = time.monotonic() + CONFIRM_SECONDS
    while (lacking := next(_lacking(url, order), None)) is not None:
        if time.monotonic() > until:
            raise NotCopied(f"{url} {lacking} after all was sent")
        time.sleep(2)


def _lacking(url: str, order: Mapping[str, Any]) -> Iterator[str]:
    where = {"project": order["project"], "entity": order["entity"] or None}
    bucket = (_ask(url, LINES, where | {"name": order["key"]}).get("model") or {}).get("bucket") or {}
    count, expected = int(bucket.get("historyLineCount") or 0), len(order["steps"])
    if count < expected:
        yield f"has {count} of {expected} steps"
    if _parsed(bucket.get("summaryMetrics")).get(COPY) != order["summary"][COPY]:
        yield "does not have the newest summary"
    for one in order["models"]:
        said = _ask(url, MODEL, where | {"name": f"{one['name']}:latest"})
        found = (said.get("project") or {}).get("artifact") or {}
        if found.get("state") != "COMMITTED" or _parsed(found.get("metadata")).get("sha256") != one["sha256"]:
            yield f"does not have the model {one['name']}"


def _parsed(said: Any) -> dict[str, Any]:
    try:
        found = json.loads(said or "{}")
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _ask(url: str, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The data that the service answers with.

    Raises:
        NotCopied: it cannot be reached, does not answer in time, or refuses. The key is not shown.
    """
    key = os.environ.get("WANDB_API_KEY", "")
    body = {"query": query, "operationName": query.split()[1].partition("(")[0], "variables": variables}
    try:
        answer = httpx.post(f"{url}/graphql", json=body, auth=("api", key), timeout=ANSWER_SECONDS)
    except httpx.HTTPError as error:
        raise NotCopied(f"no answer from {url} ({type(error).__name__})") from None
    if answer.status_code in (401, 403):
        raise NotCopied(f"{url} answered {answer.status_code}: is WANDB_API_KEY right, and may it write?")
    if not answer.is_success:
        raise NotCopied(f"{url} answered {answer.status_code}")
    try:
        found = answer.json()["data"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, dict):
        raise NotCopied(f"{url} answered with something else than data")
    return found
