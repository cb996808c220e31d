"""One training with ART's service, which has no way to take a request back or to know it again.

So the intent is stored before the request, and the training's id after it. Whoever finds an intent without an id does
not ask again, as the training may be there: it waits for the checkpoint that this leaves, or says that nobody knows.
A new step does not say which training left it, so nothing is asked for while another of the line may leave one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import TypeAdapter

from backends import art_errors, art_refusals
from backends.art_account import Account
from backends.art_service import Service
from rl import art
from rl.art_groups import STRIPPED, Chosen, choose
from rl.config import TrainConfig
from rl.errors import InvalidInput, Later, PermanentError
from rl.objectives import Grouped, Objective
from rl.protocol import CheckpointWritten, Done, Event, Failed, Paused, Progress, Remote, RemoteNoted, TrainCommand
from rl.remote import Artifact, artifact_of, sha256_of

POLL_SECONDS: Final = 1.0
ALIVE_SECONDS: Final = 5.0
LATE_SECONDS: Final = 300.0
"""A service that cannot be asked gets so long once a training's time is over."""
CONFIG: TypeAdapter[Objective] = TypeAdapter(TrainConfig)
Groups = Callable[[Chosen], list[Any]]
"""Makes ART's own groups of those that were chosen."""


class Talk(Protocol):
    """The way to the process that supervises this one."""

    pausing: bool

    def say(self, event: Event) -> None:
        """Tell an event."""
        ...

    def stored(self) -> Awaitable[None]:
        """Until what was said is stored."""
        ...


class Pause(Exception):
    """The supervisor asked for it; the service goes on."""


class Training:
    """One command, carried out with ART's ``client``."""

    def __init__(self, client: Any, groups: Groups, account: Account, command: TrainCommand, talk: Talk) -> None:
        self._service, self._groups, self._account = Service(client), groups, account
        self._command, self._talk = command, talk
        self._remote = command.remote
        self._trouble, self._has_looked, self._late = "", False, 0.0
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
            self._talk.say(Failed(**self._ids, error=kind, message=words))
        finally:
            alive.cancel()

    async def _register(self) -> None:
        """Have the service know the model, and call its newest step ours. Nothing is trained."""
        if self._command.dataset:
            raise InvalidInput("parent", None, art_errors.ADOPT)
        here, base = self._account, self._command.base
        model = await self._service.model(here.entity, here.project, str(self._command.model), base)
        step = await self._service.newest(model.id)
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
        """Ask for the training, once. It has no id in what is returned where nobody has the answer."""
        model = await self._service.model(parent.entity, parent.project, parent.name, self._command.base)
        newest = await self._alone(model.id)
        if newest != parent.step:
            raise art_refusals.of_step(parent, newest, self._command.beside.newer)
        groups = self._groups(chosen)
        self._check_pause()
        remote = Remote(model=model.id, newest=newest, asked_at=time.time())
        await self._store("intended", remote)
        while True:
            if self._talk.pausing:
                await self._store("withdrawn", None)
                raise Pause
            try:
                training = await self._service.submit(model.id, groups, asked)
            except Exception as error:
                if not art_errors.made_nothing(error):
                    self._trouble = art_errors.said(error, self._account)[1]
                    return remote
                wait = art_errors.wait_seconds(error)
                if wait is None or time.time() + wait > self._deadline(remote):
                    await self._store("withdrawn", None)
                    raise
                await self._rest(wait)
                continue
            if not training:
                return remote
            remote = remote.model_copy(update={"training": training})
            await self._store("submitted", remote)
            return remote

    async def _alone(self, model_id: str) -> int:
        """The model's newest step, once no other training that the line asked for can leave a newer one.

        Raises:
            Later: one goes on, or has ended and its step is not to be seen yet.
            PermanentError: nobody knows of one whose time is over.
        """
        late = []
        for job, other in self._command.beside.others.items():
            if other.model != model_id:
                continue
            end = await self._service.end_of(other)
            if end is None:
                is_late = time.time() > self._deadline(other)
                raise art_refusals.of_other(self._command.job, job, other, is_late=is_late)
            await self._store("settled", other.model_copy(update={"end": end}), of=job)
            late += [other] if end == "ended" and other.training is not None else []
        newest = await self._service.newest(model_id)
        for other in late:
            if newest <= other.newest:
                raise Later(f"training {other.training} has ended with the service, and its step is not to be seen yet")
        return newest

    async def _follow(self, remote: Remote, parent: Artifact) -> Remote:
        """Heed the training's events until it has ended."""
        while True:
            seen, is_over = remote, False
            try:
                async for event in self._service.events(remote):
                    if is_over := event.type == "training_ended":
                        break
                    remote = self._heeded(remote, event)
            except PermanentError:
                await self._store("settled", remote.model_copy(update={"end": "failed"}))
                raise
            except Exception as error:
                self._looked(error)
            else:
                self._looked(None)
            if remote != seen:
                await self._store("polled", remote)
            if is_over:
                return remote
            await self._wait(remote, parent)

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
            try:
                step = await self._service.newest(remote.model)
            except Exception as error:
                self._looked(error)
            else:
                self._looked(None)
                if step == remote.newest + 1:
                    return step
                if step > remote.newest:
                    await self._store("settled", remote.model_copy(update={"end": "given up"}))
                    raise art_refusals.of_several(parent, remote, step, self._command.job)
            await self._wait(remote, parent)

    def _looked(self, error: Exception | None) -> None:
        """Remember whether the service could be asked, and what was the matter last."""
        self._has_looked = error is None
        if error is not None:
            self._trouble = art_errors.said(error, self._account)[1]

    async def _wait(self, remote: Remote, parent: Artifact) -> None:
        """Until the next look.

        Raises:
            PermanentError: the training's time is over, and it was looked, or that cannot be done.
        """
        self._check_pause()
        if time.time() > self._deadline(remote):
            self._late, job = self._late or time.monotonic(), self._command.job
            if self._has_looked:
                await self._store("settled", remote.model_copy(update={"end": "given up"}))
                raise art_refusals.of_deadline(parent, remote, self._account.deadline_seconds, self._trouble, job)
            if time.monotonic() - self._late > LATE_SECONDS:
                raise art_refusals.of_silence(remote, self._trouble, job)
        await asyncio.sleep(POLL_SECONDS)

    async def _rest(self, seconds: float) -> None:
        """So long, or until the supervisor asks for a pause."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._talk.pausing:
            await asyncio.sleep(min(left, POLL_SECONDS))

    def _deadline(self, remote: Remote) -> float:
        return remote.asked_at + self._account.deadline_seconds

    def _check_pause(self) -> None:
        if self._talk.pausing:
            raise Pause

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
