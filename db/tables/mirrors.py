"""What of our rows was copied to a place that is not ours."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, Moment


class Mirror(Base):
    """How far the copy of one row at one ``target`` (``store``, ``wandb``, ...) has come. No row: not begun.

    ``kind`` and ``ref`` are a checkpoint's id, a training job's, or a version's. ``sent`` counts what a target that
    takes a thing bit by bit has of it, and ``place`` is where, if it can be moved. After ``tries`` failures in a row,
    the last of them ``error`` at ``failed_at``, it is tried again at ``next_at``; ``done_at`` is when all of it was
    there. ``options`` has what somebody asked for with a copy that is made because of that alone (``db.publications``).
    """

    __tablename__ = "mirrors"
    __table_args__ = (CheckConstraint("kind in ('checkpoint','training','version')", name="kind"),)

    target: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    ref: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sent: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    error: Mapped[str | None]
    next_at: Mapped[CreatedAt]
    done_at: Mapped[Moment | None]
    failed_at: Mapped[Moment | None]
    place: Mapped[str | None]
    options: Mapped[Json | None]
