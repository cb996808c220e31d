"""``rlfleet run``: a pipeline from demonstrations to a decision, or a plain run on a line that has a version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.noted import noted
from fleet.terminal import AsJson, connect, errors, say, wide_console
from rl.errors import InvalidInput, InvalidSettings

DEFAULT_LINE = "main"
STARTERS_RATE = 1e-3
"""Random weights stand such a learning rate, and more."""

if TYPE_CHECKING:
    from rl.config import RunConfig
    from rl.pipeline import Pipeline


def run(
    file: Annotated[Path, typer.Argument(help="TOML: a pipeline, or a run (docs/pipelines.md, docs/runs.md)")],
    line: Annotated[str | None, typer.Option(help="of a plain run: the line of versions; left out: main")] = None,
    stage: Annotated[str | None, typer.Option(help="of a pipeline: this stage alone")] = None,
    base: Annotated[str | None, typer.Option(help="of a pipeline: begin with this folder or hub id")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="of a pipeline: every stage in minutes on a CPU")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="of a pipeline: start anew instead of going on")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline to its end, on the fleet that runs or on one of its own; or start a plain run on a line."""
    from fleet.files import parsed, read_values
    from rl.config import RunConfig
    from rl.pipeline import Pipeline, is_pipeline

    values = read_values(file)
    if is_pipeline(values):
        if line is not None:
            raise InvalidInput("line", line, f"{file.name} is a pipeline, and its line has its name; leave --line out")
        written = parsed(file, values, Pipeline)
        config = _chosen(written, base, quick=quick)
        changes = [f"quick: {words}" for words in written.differences(config)] if quick else []
        raise typer.Exit(0 if _run(config, stage, changes, fresh=fresh, as_json=as_json) else 1)
    only = {"stage": stage, "base": base, "quick": quick, "fresh": fresh, "json": as_json}
    if named := [name for name, value in only.items() if value]:
        remedy = f"{file.name} is a plain run; --{named[0]} is for files with [model] and [demonstrations]"
        raise InvalidInput(named[0], only[named[0]], remedy)
    try:
        config_of_run = parsed(file, values, RunConfig)
    except InvalidSettings as error:
        if not {"rl", "environment"} & values.keys():
            raise
        remedy = f"{error.remedy}; a pipeline has [model], [demonstrations] and [sft], and this file has none of them"
        raise InvalidSettings(error.field, error.value, remedy) from None
    _start(config_of_run, line or DEFAULT_LINE)


def _chosen(config: Pipeline, base: str | None, *, quick: bool) -> Pipeline:
    """The pipeline with another base model, or made small."""
    from rl.pipeline import Model
    from rl.pipeline_quick import quick as made_small

    if base is not None and quick:
        remedy = "--quick begins with a starter of its own; leave one of the two out"
        raise InvalidInput("base", base, remedy)
    if base == "":
        raise InvalidInput("base", base, "name a folder or a hub id, such as Qwen/Qwen3-0.6B, or leave --base out")
    if base is not None:
        _check_rates(config, base)
        config = config.model_copy(update={"model": Model(base=base)})
    if not quick:
        return config
    from environments import KNOWN

    return made_small(config, KNOWN)


def _check_rates(config: Pipeline, base: str) -> None:
    """Refuse to train pretrained weights as fast as random ones."""
    rates = {"sft": config.sft, "rl.train": config.rl.train}
    for name, train in rates.items() if config.model.starter is not None else ():
        rate = train.optimizer.learning_rate
        if rate >= STARTERS_RATE:
            remedy = (
                f"{name}.optimizer.learning_rate = {rate:g} is for the file's [model.starter] and ruins pretrained "
                f"weights: copy the file, with model.base and rates below {STARTERS_RATE:g}"
            )
            raise InvalidInput("base", base, remedy)


def _run(config: Pipeline, stage: str | None, changes: Sequence[str], *, fresh: bool, as_json: bool) -> bool:
    """Whether all that was asked for is done."""
    from fleet.pipeline import report
    from fleet.pipeline.run import run as run_pipeline

    found = run_pipeline(config, errors, stage=stage, fresh=fresh, changes=changes)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        wide_console().print(report.table(found))
        for words in report.closing_words(found):
            say(words)
    return bool(found["done"]) or stage not in (None, "report")


def _start(config: RunConfig, line: str) -> None:
    """Start rounds of practice from the line's stable version. The fleet does the rest."""
    from db import lines, versions
    from environments import fitting
    from rl.decidable import check_run
    from tasks.ring import advance

    connect()
    check_run(config)
    fitting.check_run(config)
    with noted("start run", config.name, line=line) as session:
        row = lines.named(session, line)
        stable = versions.stable_name(session, row.id)
        if stable is None:
            raise InvalidInput("line", line, "it has no released version to start from; train on a window first")
        lines.start_run(session, row.id, config, versions.named(session, stable)[0].id)
    say(f"run {config.name}: {config.rounds} rounds from {stable}; rang {len(advance(line))}")
