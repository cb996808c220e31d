"""The licence of a base model, from its own card: the one in its folder, or the one on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from yaml import YAMLError

from backends.hub import Hub, Show, retried
from backends.hub_errors import named
from rl.errors import HubRefused
from rl.model_card import Licence

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

CARD = "README.md"


def licence_of(hub: Hub, folder: Path, base: str | None, show: Show) -> Licence | None:
    """The licence that the card of the base states; None where there is no card, or none that says.

    ``folder`` holds the base's weights, and ``base`` is its repository on the Hub.

    Raises:
        HubUnavailable: the Hub does not answer, or fails.
    """
    if found := _stated(_head(folder / CARD)):
        return found
    if base is None:
        return None

    def ask() -> ModelCardData | None:
        with named(base, hub.endpoint):
            return hub.api.model_info(base).card_data

    try:
        told = retried(ask, show)
    except HubRefused:  # it has no such repository, or not for this token
        return None
    return _stated(vars(told)) if told else None


def _head(card: Path) -> Mapping[str, object]:
    """What the card says at its beginning; nothing where there is none, or one that is not readable."""
    from huggingface_hub import metadata_load

    try:
        return metadata_load(card) or {}
    except (OSError, ValueError, YAMLError):
        return {}


def _stated(card: Mapping[str, object]) -> Licence | None:
    licence = card.get("license")
    if not isinstance(licence, str) or not licence.strip():
        return None
    name, link = card.get("license_name"), card.get("license_link")
    return Licence(
        licence=licence,
        name=name if isinstance(name, str) else None,
        link=link if isinstance(link, str) else None,
    )
