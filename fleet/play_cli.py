"""``rlfleet play``: how many scenarios of an environment a model solves, or a scripted agent."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fleet.pipeline.rate import Rate
from fleet.settings import PlaySettings
from fleet.terminal import AsJson, errors, say, wide_console
from rl.errors import InvalidInput, StartError

if TYPE_CHECKING:
    from fleet.playing import Asked, Counted, Tally


DEFAULT_COUNT = 200

NO_GATEWAY = (
    "no fleet runs here: start one with `rlfleet up`, name a server with --url, or set RLFLEET_GATEWAY_URL to the "
    "gateway of a fleet elsewhere"
)


class Agent(StrEnum):
    """Who plays."""

    MODEL = "model"
    ORACLE = "oracle"
    CHANCE = "chance"
    SILENCE = "silence"


class Split(StrEnum):
    """Whose scenarios."""

    TRAIN = "train"
    VALIDATION = "validation"
    HELD_OUT = "held_out"


def play(
    environment: Annotated[str, typer.Argument(help="an environment or a mix, such as sat-small+textcraft-small")],
    url: Annotated[str | None, typer.Option(help="OpenAI-compatible server; left out: this fleet's gateway")] = None,
    model: Annotated[str, typer.Option(help="what the server calls the model; a line's name at the gateway")] = "main",
    split: Annotated[Split, typer.Option(help="whose scenarios")] = Split.HELD_OUT,
    first_seed: Annotated[int, typer.Option(min=0)] = 0,
    count: Annotated[int | None, typer.Option(min=1, help="scenarios; left out: 200, or all there are")] = None,
    samples: Annotated[int, typer.Option(min=1, max=100, help="episodes on each; several need a temperature")] = 1,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="of one reply; left out: the environment's")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="episodes at a time")] = 64,
    timeout: Annotated[float, typer.Option(min=1, help="seconds that one reply may take")] = 120.0,
    agent: Annotated[Agent, typer.Option(help="the model, or a scripted agent that needs no server")] = Agent.MODEL,
    as_json: AsJson = False,
    transcript: Annotated[int, typer.Option(min=0, help="print so many episodes")] = 0,
) -> None:
    """Play held-out scenarios and count what is solved. The key for the server is RLFLEET_PLAY_KEY.

    The exit code is 1 where nothing could be played.
    """
    asked = _asked(environment, split, first_seed, count, samples, temperature, agent)
    at = Server(url, model, temperature, max_tokens, concurrency, timeout)
    started = time.monotonic()
    tally = _played(asked, agent, at, transcript)
    seconds = time.monotonic() - started
    if as_json:
        who = {"agent": agent.value, "model": model if agent is Agent.MODEL else None, "temperature": temperature}
        episodes = [[one.model_dump(mode="json", exclude_none=True) for one in said] for said in tally.transcripts]
        told = {"transcripts": episodes} if transcript else {}
        took = {"seconds": round(seconds, 1)}
        typer.echo(json.dumps({"schema": 1, **asdict(asked), **who, **tally.json(), **took, **told}))
    else:
        _show(tally, environment, agent.value, seconds)
    raise typer.Exit(0 if tally.n else 1)


@dataclass(frozen=True)
class Server:
    """The model to play with, and how it is asked; without a ``url`` it is behind this fleet's gateway."""

    url: str | None
    model: str
    temperature: float
    max_tokens: int | None
    concurrency: int
    timeout: float


def _asked(
    environment: str,
    split: Split,
    first_seed: int,
    count: int | None,
    samples: int,
    temperature: float,
    agent: Agent,
) -> Asked:
    """Raises ``InvalidInput`` for more scenarios than there are, and for samples that would be the same."""
    from environments.fitting import sized
    from fleet.playing import Asked

    if agent is not Agent.MODEL and samples > 1:
        raise InvalidInput("samples", samples, f"{agent.value} plays the same each time; leave it out")
    if (samples > 1) != (temperature > 0):
        remedy = "several samples need a temperature above 0, and one sample is greedy"
        raise InvalidInput("temperature", temperature, remedy)
    there = sized(environment, split.value)
    left = DEFAULT_COUNT if there is None else there - first_seed
    wanted = min(DEFAULT_COUNT, max(left, 1)) if count is None else count
    if there is not None and wanted > left:
        raise InvalidInput("count", wanted, f"{environment} has {there} scenarios in {split.value}; ask for fewer")
    return Asked(environment, split.value, first_seed, wanted, samples)


def _played(asked: Asked, agent: Agent, at: Server, transcripts: int) -> Tally:
    from fleet.playing import Tally, play_at, play_scripted

    if agent is not Agent.MODEL:
        with counting(asked.environment) as counted:
            return play_scripted(asked, agent.value, counted, transcripts=transcripts)
    where, key = (at.url, _settings().play_key) if at.url is not None else _gateway()
    tally = Tally()
    try:
        with counting(asked.environment) as counted:
            playing = play_at(
                asked,
                where,
                key,
                at.model,
                at.temperature,
                counted,
                max_tokens=at.max_tokens,
                concurrency=at.concurrency,
                timeout_seconds=at.timeout,
                transcripts=transcripts,
                tally=tally,
            )
            return asyncio.run(playing)
    except BaseException:
        if tally.n or tally.failed:
            words = f"before it ended: solved {tally.k}/{tally.n}, failed {tally.failed.total()}"
            errors.print(words, highlight=False, markup=False, soft_wrap=True)
        raise


@contextmanager
def counting(what: str) -> Iterator[Counted]:
    """A bar on stderr, with the rate and the time that is left."""
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        bar = progress.add_task(what, total=None, unit="episodes")
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _settings() -> PlaySettings:
    return PlaySettings.read(os.environ)


def _gateway() -> tuple[str, str]:
    """Where this fleet's gateway is, and a key that it takes.

    Raises:
        StartError: none runs here, and none is named: whoever listens on its port is not to have the key.
    """
    from fleet.home import home_path, read_endpoints
    from fleet.processes import own_key

    found = read_endpoints(home_path(os.environ))
    url = os.environ.get("RLFLEET_GATEWAY_URL") or (found.gateway_url if found else None)
    if not url:
        raise StartError(NO_GATEWAY)
    return url, _settings().play_key or own_key(os.environ)


def _show(tally: Tally, environment: str, agent: str, seconds: float) -> None:
    from fleet.playing import shown

    for number, messages in enumerate(tally.transcripts, 1):
        say(f"--- episode {number}")
        for paragraph in shown(messages):
            say(paragraph)
    found = tally.json()
    table = Table("type", "solved", "share", title=f"{environment}, {agent}", title_justify="left")
    for kind, one in found["types"].items():
        table.add_row(*map(Text, [kind, f"{one['k']}/{one['n']}", f"{one['k'] / one['n']:.1%}"]))
    wide_console().print(table)
    share = f" ({tally.k / tally.n:.1%}, 80 % interval {found['low']:.1%} to {found['high']:.1%})" if tally.n else ""
    say(f"solved {tally.k}/{tally.n}{share}")
    say(f"{found['turns'] or 0} turns an episode, {tally.truncated} truncated, {seconds:.1f} s")
    if tally.failed:
        reasons = ", ".join(f"{count} at {boundary}" for boundary, count in sorted(tally.failed.items()))
        say(f"failed, and not counted: {reasons}")
        say(f"the first of them: {tally.reason}")
