"""What becomes of rows that reach a source after their window was read, and of what became known still later."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rl.training import Config

Policy = Literal["reopen", "extend", "ignore"]


class Late(Config):
    """The source of an automatic line is looked at again for rows that came late.

    ``reopen`` reads a window again whatever its state: what is new in it is trained on by the next version. ``extend``
    does so until the window was trained on, ``ignore`` never. Windows that ended more than ``hours`` ago are left
    alone. ``outcomes_after`` are hours after a window's end at which it is read once more even without new rows,
    because the source learns meanwhile how things turned out.
    """

    policy: Policy = "reopen"
    hours: float = Field(72.0, gt=0)
    outcomes_after: tuple[Annotated[float, Field(gt=0)], ...] = ()
