"""ART's own ``ruler_score_group``, in a child process: importing ART brings torch with it.

What its 0.5.18 gets wrong is checked here, since nobody else can: it pairs scores with trajectories by their place in
the answer, takes any number for a score, and pastes trajectories as they are. The child sorts the answer by its ids and
refuses those that are missing, unknown, doubled or out of range, before ART sees them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from rl.errors import ChildLost, InvalidInput

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
START_SECONDS = 120.0
"""What the child gets to import ART, beside the time of the judge's answers."""
LONGEST_LINE = 16 * 2**20


class Line(BaseModel):
    """A line between us and the child: nothing else is understood."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Settings(Line):
    """The first line to the child. ``model`` is LiteLLM's name, such as ``openai/gpt-4o-mini``."""

    model: str
    api_base: str
    api_key: SecretStr
    temperature: float | None
    max_tokens: int
    limit_name: str
    timeout_seconds: float
    concurrency: int = Field(ge=1)

    def line(self) -> dict[str, object]:
        return self.model_dump(mode="json") | {"api_key": self.api_key.get_secret_value()}


class Group(Line):
    """A group to score: messages of each trajectory, by ids of ours."""

    name: str
    rubric: str
    trajectories: dict[str, list[dict[str, object]]]


class Scores(Line):
    """The scores of a group, 0 to 1, by our ids; what the judge was charged for where it said so."""

    kind: Literal["scores"] = "scores"
    name: str
    scores: dict[str, Annotated[float, Field(ge=0, le=1)]]
    explanations: dict[str, str]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Failed(Line):
    """A group without scores. ``transient`` where another time may give some; ``asked`` where a call was paid for.

    ``closed`` where the judge turns everything down: the key or the model is wrong.
    """

    kind: Literal["failed"] = "failed"
    name: str
    reason: str
    transient: bool = False
    closed: bool = False
    asked: bool = True


ANSWER: TypeAdapter[Scores | Failed] = TypeAdapter(Annotated[Scores | Failed, Field(discriminator="kind")])


def require_art() -> None:
    """Raises ``InvalidInput`` when ART is not installed."""
    if importlib.util.find_spec("art") is None:
        raise InvalidInput("scoring.method", "ruler", "needs ART, which is not installed: pip install 'rlfleet[art]'")


async def ruler_scores(
    settings: Settings, groups: Sequence[Group], module: str = "backends.ruler_child"
) -> AsyncGenerator[Scores | Failed, None]:
    """The outcome of each group as it comes, in any order.

    Raises:
        InvalidInput: ART is not installed.
        ChildLost: the child ended or was silent before all groups had an outcome.
    """
    require_art()
    left = {group.name: group for group in groups}
    async with _child(module) as (process, log):
        if process.stdin is None or process.stdout is None:
            raise ChildLost("ART's child has no pipes")
        lines = [settings.line(), *(group.model_dump(mode="json") for group in groups)]
        process.stdin.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        process.stdin.write_eof()
        patience = START_SECONDS + settings.timeout_seconds * (1 + len(groups) // settings.concurrency)
        while left:
            outcome = await _outcome(process.stdout, patience, log)
            group = left.pop(outcome.name, None)
            if group is None or (isinstance(outcome, Scores) and outcome.scores.keys() != group.trajectories.keys()):
                raise ChildLost(f"ART's child answered for {outcome.name!r:.80} with other ids than it was asked for")
            yield outcome


async def _outcome(lines: asyncio.StreamReader, patience: float, log: Path) -> Scores | Failed:
    try:
        line = await asyncio.wait_for(lines.readline(), patience)
    except (TimeoutError, ValueError) as error:
        raise ChildLost(f"ART's child said nothing of use within {patience:g} s") from error
    if not line:
        raise ChildLost(f"ART's child ended before all groups had an outcome: {_last_error(log)}")
    try:
        return ANSWER.validate_json(line)
    except ValidationError as error:
        raise ChildLost(f"ART's child said something else than an outcome ({error.error_count()} errors)") from None


def _last_error(log: Path) -> str:
    """The kind of the error that the child ended with. Not its words, which may quote trajectories."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return lines[-1].split(":", 1)[0][:80]


@asynccontextmanager
async def _child(module: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    """The child and its log, in a folder of its own; killed at the end."""
    with tempfile.TemporaryDirectory(prefix="rlfleet-ruler-") as folder, (Path(folder) / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            cwd=folder,
            env=_environment(os.environ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LONGEST_LINE,
        )
        try:
            yield process, Path(log.name)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the child gets to see: none of our addresses and keys."""
    ours = str(Path(__file__).parents[1])
    kept = {name: environ[name] for name in PASSED_ON if name in environ}
    return kept | {
        "PYTHONPATH": ours,
        "PYTHON_DOTENV_DISABLED": "1",  # ART looks for a .env from its own folder upwards, which finds ours
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched
        "LITELLM_LOG": "ERROR",
        "WANDB_MODE": "disabled",
        "WEAVE_DISABLED": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
