"""One training with ART's service, which has no way to take a request back or to know it again.

So the intent is stored before the request, and the training's id after it. Whoever finds an intent without an id does
not ask again, as the training may be there: it waits for the checkpoint that this leaves, or says that nobody knows.
A new step does not say which training left it, so nothing is asked for while another of the line may leave one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from backends import art_errors, art_refusals
from backends.art_account import Account
from backends.art_service import Service
from backends.art_waiting import LOOK_SECONDS, POLL_SECONDS, SUBMIT_SECONDS, Pause, Talk, Waiting
from rl import art
from rl.art_groups import STRIPPED, Chosen, choose
from rl.config import TrainConfig
from rl.errors import InvalidInput, PermanentError
from rl.objectives import Grouped, Objective
from rl.protocol import CheckpointWritten, Done, Failed, Paused, Progress, Remote, RemoteNoted, TrainCommand
from rl.remote import Artifact, artifact_of, sha256_of

ALIVE_SECONDS: Final = 5.0
LATE_SECONDS: Final = 300.0
"""A service that cannot be asked gets so long once a training's time is over."""
UNKNOWN_SECONDS: Final = 60.0
"""A training that the service does not know gets so long: it may not be to be seen everywhere yet."""
CONFIG: TypeAdapter[Objective] = TypeAdapter(TrainConfig)
Groups = Callable[[Chosen], list[Any]]  # makes ART's own groups of those that were chosen
T = TypeVar("T")


class Training:
    """One command, carried out with ART's ``client``."""

    def __init__(self, client: Any, groups: Groups, account: Account, command: TrainCommand, talk: Talk) -> None:
        self._service, self._groups, self._account = Service(client), groups, account
        self._command, self._talk, self._waiting = command, talk, Waiting(talk)
        self._remote = command.remote
        self._trouble, self._has_looked, self._late, self._unknown, self._model_known = "", False, 0.0, 0.0, 0.0
        self._ids: dict[str, int] = {"job": command.job, "fence": command.fence}

    async def run(self) -> None:
        """Carry it out, and say how it ended."""
        alive = asyncio.create_task(self._stay_alive())
        try:
            await (self._train() if self._command.parent else self._register())
        except Pause:
            self._talk.say(Paused(**self._ids, step=self._remote.steps if self._remote else 0))
        except Exception as error:
            kind, words = art_errors.said(error, self._account)
            is_away = self._remote is None and art_errors.is_away(error)
            self._talk.say(Failed(**self._ids, error="ServiceAway" if is_away else kind, message=words))
        finally:
            alive.cancel()

    async def _register(self) -> None:
        """Have the service know the model, and call its newest step ours. Nothing is trained."""
        if self._command.dataset:
            raise InvalidInput("parent", None, art_errors.ADOPT)
        here, base = self._account, self._command.base
        model = await self._within(self._service.model(here.entity, here.project, str(self._command.model), base))
        step, _ = await self._settle_others(model.id)
        self._done(Artifact(model.entity, model.project, model.name, step), {}, {"model": model.id, "trained": False})

    async def _train(self) -> None:
        config = CONFIG.validate_python(self._command.config)
        parent = self._parent()
        with Path(self._command.dataset).open("rb") as lines:
            chosen = choose(lines, config) if isinstance(config, Grouped) else None
        if chosen is None:
            raise InvalidInput("objective", getattr(config, "objective", ""), "; ".join(art.refusals(config)))
        asked = art.experimental_config(config)  # type: ignore[arg-type]
        remote = self._remote or await self._submit(parent, chosen, asked)
        if remote.training is not None:
            remote = await self._follow(remote, parent)
        step = await self._appeared(remote, parent)
        told: dict[str, Any] = {"model": remote.model, "training": remote.training, "trained": True, "request": asked}
        told |= {"left_to_the_service": list(art.LEFT_TO_THE_SERVICE), "not_sent": list(STRIPPED)}
        about = {"config": self._command.config, "rows": chosen.manifest(), "steps": remote.steps}
        self._done(parent._replace(step=step), remote.metrics, told, about)

    def _parent(self) -> Artifact:
        """What the service is to go on from, which must be the model that this line trains there."""
        parent, here = artifact_of(str(self._command.parent)), self._account
        if parent is None:
            raise InvalidInput("parent", self._command.parent, art_errors.ADOPT)
        named = Artifact(here.entity or parent.entity, here.project, str(self._command.model), parent.step)
        if named != parent:
            remedy = f"WANDB_ENTITY, WANDB_PROJECT and the line name {named.model}; set them back, or `rlfleet adopt`"
            raise InvalidInput("parent", parent.uri, remedy)
        return parent

    async def _submit(self, parent: Artifact, chosen: Chosen, asked: dict[str, object]) -> Remote:
        """Ask for the training, once. It has no id in what is returned where nobody has the answer.

        Raises:
            Later: another training that the line asked for may leave a newer step.
            PermanentError: its time is over and its end is not known, or the parent is not the newest step.
        """
        model = await self._within(self._service.model(parent.entity, parent.project, parent.name, self._command.base))
        newest, going_on = await self._settle_others(model.id)
        for job, other in going_on.items():
            raise art_refusals.of_other(self._command.job, job, other, is_late=self._is_late(other))
        if newest != parent.step:
            raise art_refusals.of_step(parent, newest, self._command.beside.newer)
        groups = self._groups(chosen)
        self._waiting.check()
        remote = Remote(model=model.id, newest=newest, asked_at=time.time(), parent=parent.uri)
        await self._store("intended", remote)
        if self._talk.pausing:
            await self._store("withdrawn", None)
            raise Pause
        try:
            request = self._service.submit(model.id, groups, asked)
            training = await self._waiting.within(SUBMIT_SECONDS, request, heeds_pause=False)
        except Exception as error:
            if not art_errors.made_nothing(error):
                self._trouble = art_errors.said(error, self._account)[1]
                return remote
            await self._store("withdrawn", None)
            raise
        if not training:
            return remote
        remote = remote.model_copy(update={"training": training})
        await self._store("submitted", remote)
        return remote

    async def _settle_others(self, model_id: str) -> tuple[int, dict[int, Remote]]:
        """The model's newest step, and its trainings of other jobs, by job, of which no end is known.

        The end of any other is stored once its step is to be seen, or its time is over: its job knows it no more then.
        The step is looked for first, so that one which comes meanwhile is not overlooked.

        Raises:
            Later: one has ended, and its step is not to be seen yet.
        """
        newest, going_on = await self._within(self._service.newest(model_id)), dict[int, Remote]()
        for job, other in self._command.beside.others.items():
            if other.model != model_id:
                continue
            end = await self._within(self._service.end_of(other, newest))
            if end is None:
                going_on[job] = other
                continue
            is_seen = end == "failed" or newest > other.newest
            if is_seen or self._is_late(other):
                await self._store("settled", other.model_copy(update={"end": end}), of=job)
            if not is_seen:
                raise art_refusals.of_unseen(other, job, self._account.deadline_seconds)
        return newest, going_on

    async def _follow(self, remote: Remote, parent: Artifact) -> Remote:
        """Heed the training's events until it has ended, or has left its step to a service that knows it no more.

        Raises:
            PermanentError: it failed there, or the service does not know it and has no step of it.
        """
        while True:
            heard: list[Any] = []
            seen, is_over = remote, False
            await self._look(remote, self._service.hear(remote, heard))
            try:
                for event in heard:
                    if is_over := event.type == "training_ended":
                        break
                    remote = self._heeded(remote, event)
            except PermanentError:
                await self._store("settled", remote.model_copy(update={"end": "failed"}))
                raise
            if remote != seen:
                await self._store("polled", remote)
            if is_over or (self._unknown and await self._has_left_a_step(remote)):
                return remote
            await self._wait(remote, parent)

    async def _has_left_a_step(self, remote: Remote) -> bool:
        """Whether a training that the service does not know left one. Raises ``PermanentError`` if not in a while.

        A service that does not know the model either says nothing of the training: it may be another one.
        """
        since, newest = self._unknown, await self._look(remote, self._service.newest(remote.model))
        is_unknown, self._unknown = self._unknown > 0, since
        if is_unknown:
            self._check_model(remote)
        self._model_known = (self._model_known or time.monotonic()) if newest is not None else 0.0
        if newest is not None and newest > remote.newest:
            return True
        if self._model_known and time.monotonic() - max(since, self._model_known) > UNKNOWN_SECONDS:
            await self._store("settled", remote.model_copy(update={"end": "ended"}))
            raise art_refusals.of_unknown(remote, self._command.job)
        return False

    def _check_model(self, remote: Remote) -> None:
        if self._unknown and time.monotonic() - self._unknown > UNKNOWN_SECONDS:
            raise art_refusals.of_unknown_model(remote, self._trouble, self._command.job)

    def _heeded(self, remote: Remote, event: Any) -> Remote:
        data = event.data if isinstance(event.data, dict) else {}
        change: dict[str, Any] = {"after": str(event.id)}
        if event.type == "training_failed":
            words = art_errors.masked(str(data.get("error_message") or "it does not say why"), self._account)
            raise PermanentError(f"ART's service failed at training {remote.training}: {words}")
        if event.type == "training_started":
            change["total"] = art_errors.count(data.get("num_sequences"))
        elif event.type == "gradient_step":
            steps, metrics = remote.steps + 1, art_errors.numbers(data)
            means = {name: remote.metrics.get(name, value) for name, value in metrics.items()}
            means = {name: mean + (metrics[name] - mean) / steps for name, mean in means.items()}
            change |= {"steps": steps, "metrics": remote.metrics | means}
            self._say_progress(remote.model_copy(update=change), metrics)
        return remote.model_copy(update=change)

    async def _appeared(self, remote: Remote, parent: Artifact) -> int:
        """The step that follows the one that was the newest before the training was asked for."""
        while True:
            step = await self._look(remote, self._service.newest(remote.model))
            if step == remote.newest + 1:
                return step
            if step is not None and step > remote.newest:
                await self._store("settled", remote.model_copy(update={"end": "given up"}))
                raise art_refusals.of_several(parent, remote, step, self._command.job)
            self._check_model(remote)
            await self._wait(remote, parent)

    async def _look(self, remote: Remote, work: Coroutine[Any, Any, T]) -> T | None:
        """What a look at the service gives; None where it could not be asked, and what was the matter is remembered.

        Raises:
            PermanentError: it refuses the key.
        """
        try:
            found = await self._within(work)
        except Pause:
            raise
        except Exception as error:
            self._has_looked, self._trouble = False, art_errors.said(error, self._account)[1]
            if art_errors.refuses_key(error):
                raise art_refusals.of_key(remote, self._trouble, self._command.job) from error
            self._unknown = (self._unknown or time.monotonic()) if art_errors.is_unknown(error) else 0.0
            return None
        self._has_looked, self._unknown = True, 0.0
        return found

    async def _within(self, work: Coroutine[Any, Any, T]) -> T:
        """What one look gives. One at a training whose time is over takes no longer than what is left for that."""
        left = LATE_SECONDS - (time.monotonic() - self._late) if self._late else LOOK_SECONDS
        return await self._waiting.within(min(LOOK_SECONDS, max(left, POLL_SECONDS)), work)

    async def _wait(self, remote: Remote, parent: Artifact) -> None:
        """Until the next look.

        Raises:
            PermanentError: the training's time is over, and it was looked, or that cannot be done.
        """
        self._waiting.check()
        if self._is_late(remote):
            self._late, job = self._late or time.monotonic(), self._command.job
            if self._has_looked:
                await self._store("settled", remote.model_copy(update={"end": "given up"}))
                raise art_refusals.of_deadline(parent, remote, self._account.deadline_seconds, self._trouble, job)
            if time.monotonic() - self._late > LATE_SECONDS:
                raise art_refusals.of_silence(remote, self._trouble, job)
        await asyncio.sleep(POLL_SECONDS)

    def _is_late(self, remote: Remote) -> bool:
        return time.time() > remote.asked_at + self._account.deadline_seconds

    async def _store(self, phase: Any, remote: Remote | None, of: int | None = None) -> None:
        self._talk.say(RemoteNoted(**self._ids, phase=phase, remote=remote, of=of))
        await self._talk.stored()
        if of is None:
            self._remote = remote

    async def _stay_alive(self) -> None:
        """Nobody takes it for stalled while the service takes its time."""
        while True:
            self._say_progress(self._remote, {})
            await asyncio.sleep(ALIVE_SECONDS)

    def _say_progress(self, remote: Remote | None, metrics: dict[str, float]) -> None:
        steps, total = (remote.steps, remote.total) if remote else (0, 0)
        self._talk.say(Progress(**self._ids, step=steps, total=max(total, steps, 1), metrics=metrics))

    def _done(
        self, made: Artifact, metrics: dict[str, float], told: dict[str, Any], about: dict[str, Any] | None = None
    ) -> None:
        known = {"step": made.step, "name": made.model, "metrics": metrics}
        written = CheckpointWritten(
            **self._ids, step=made.step, path=made.uri, kind="remote", sha256=sha256_of(made.uri), metrics=metrics
        )
        self._talk.say(written)
        self._talk.say(Done(**self._ids, manifest={**(about or {}), "backend": told | known}))
