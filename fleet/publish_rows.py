"""What the rows say of a version that is to be published, and whether it may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rl.errors import InvalidInput
from rl.model_card import Card, Decided, Judged, Licence
from rl.remote import is_remote
from rl.report import Count

if TYPE_CHECKING:
    from db.evaluation_counts import Evaluated
    from db.tables import Checkpoint, Version
    from db.version_summaries import Decided as DecisionRow
    from db.versions import Made

CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
"""How the cache of the Hub's client calls the folder of a model."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Stored:
    """A version as its rows have it. ``base`` is the folder of the full weights it was trained on, of ``base_sha256``.

    ``root`` is the folder that these go back to, through versions of ours. The two ids are their repositories on the
    Hub, None where nothing tells one.
    """

    version: str
    line: str
    kind: str
    checkpoint: Path
    sha256: str
    base: Path
    base_sha256: str | None
    base_id: str | None
    root: Path
    root_id: str | None
    made: Made
    evaluations: tuple[Judged, ...]
    decision: Decided | None

    def card(self, repository: str, base_id: str | None, licence: Licence | None, *, is_adapter: bool) -> Card:
        """The model card of what is published of it."""
        from rl.records import utc

        version, dataset = self.made.version, self.made.dataset
        return Card(
            repository=repository,
            version=self.version,
            line=self.line,
            state=version.state,
            is_adapter=is_adapter,
            merged=self.kind == "adapter" and not is_adapter,
            base=base_id,
            licence=licence,
            parent=self.made.parent,
            step=self.made.checkpoint.step,
            made=utc(version.created_at),
            sha256=self.sha256,
            windows=tuple(version.manifest.get("windows") or ()),
            trajectories=dataset.manifest.get("trajectories") if dataset else None,
            evaluations=self.evaluations,
            decision=self.decision,
            config=self.made.config,
            was_erased=version.erased_at is not None,
        )


def read(name: str, line: str | None, *, anything: bool) -> Stored:
    """The version called ``name``; a short name such as ``v1.0.3`` is one of ``line``.

    ``anything``: it need not have passed, and what it learned from may have been erased.

    Raises:
        InvalidInput: there is no such version, it may not be published, or its checkpoint is not to be had here.
        StoreUnavailable, StoreRefused: it is not on this disk, and the store does not give it.
    """
    from db import evaluation_counts, lines, version_summaries, versions
    from db.session import transaction
    from tasks.stored import at_hand

    with transaction() as session:
        made = versions.made(session, lines.full_name(session, name, line or "main"))
        version, checkpoint = made.version, made.checkpoint
        if not anything:
            _check_passed(version)
        _check_kept(version, checkpoint)
        summary = version_summaries.summary(session, version.name)
        decisions = version_summaries.decisions(session, version.id)
        found = evaluation_counts.of_version(session, version)
        base_sha256 = version.manifest.get("base_sha256") or versions.sha256_of(session, checkpoint.base_uri)
        root = versions.root_of(session, checkpoint.base_uri)
    folder, base = at_hand(checkpoint.uri), at_hand(checkpoint.base_uri)
    _check_there(version, folder)
    return Stored(
        version=version.name,
        line=summary.line if summary else "",
        kind=checkpoint.kind,
        checkpoint=Path(folder),
        sha256=checkpoint.sha256,
        base=Path(base),
        base_sha256=base_sha256,
        base_id=_on_the_hub(checkpoint.base_uri),
        root=Path(root),
        root_id=_on_the_hub(root),
        made=made,
        evaluations=tuple(_judged(one) for one in found if one.is_own and one.is_newest),
        decision=_decided(decisions),
    )


def _check_passed(version: Version) -> None:
    if version.state != "ready":
        remedy = (
            f"it is {version.state}: only what passed, or was released, is published; --any publishes it all the same"
        )
        raise InvalidInput("version", version.name, remedy)
    if version.erased_at is not None:
        remedy = "some of what it learned from was erased since at somebody's request; --any publishes it all the same"
        raise InvalidInput("version", version.name, remedy)


def _check_kept(version: Version, checkpoint: Checkpoint) -> None:
    if is_remote(checkpoint.uri):
        remedy = f"its weights lie with the service that trained it, as {checkpoint.uri}: publish them from there"
        raise InvalidInput("version", version.name, remedy)
    if checkpoint.removed_at is not None:
        remedy = "retention removed its checkpoint; `rlfleet reproduce --keep FOLDER` trains it again"
        raise InvalidInput("version", version.name, remedy)


def _check_there(version: Version, folder: str) -> None:
    if not Path(folder).is_dir():
        remedy = f"its checkpoint is not on this machine: there is no folder {folder}; publish it where it is"
        raise InvalidInput("version", version.name, remedy)


def _on_the_hub(folder: str) -> str | None:
    """The repository that a base came from: the cache of the Hub's client names it, or it is named itself."""
    if found := CACHED.search(folder):
        return f"{found[1]}/{found[2]}"
    return folder if HUB_ID.fullmatch(folder) and not Path(folder).is_dir() else None


def _judged(one: Evaluated) -> Judged:
    from db.version_views import words_of

    def shown(count: object) -> Count | None:
        k, n = getattr(count, "k", 0), int(getattr(count, "n", 0))
        return Count.of(k, n) if n else None

    types = {name: told for name, count in sorted(one.types.items()) if (told := shown(count))}
    return Judged(
        scenarios=words_of(one.task_set), judge=one.judge, count=shown(one.overall), types=types, coverage=one.coverage
    )


def _decided(rows: Sequence[DecisionRow]) -> Decided | None:
    """The newest."""
    if not rows:
        return None
    one = rows[0]
    return Decided(released=one.released, policy=one.policy, reason=one.reason, compared_with=one.stable)
