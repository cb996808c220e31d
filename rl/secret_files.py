"""Secrets in files: ``NAME_FILE`` names a file that holds what ``NAME`` would, as Docker and Kubernetes mount them.

The settings classes of every package read secrets through this module, because ``rl`` is all that they share. It is
the only one of ``rl`` that reads a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from rl.errors import InvalidSettings

SECRETS = (
    "DATABASE_URL",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "OPENPIPE_API_KEY",
    "REDIS_URL",
    "RLFLEET_ALERT_TOKEN",
    "RLFLEET_ALERT_WEBHOOK",
    "RLFLEET_ENGINE_KEY",
    "RLFLEET_GATEWAY_KEY",
    "RLFLEET_GATEWAY_KEYS",
    "RLFLEET_JUDGE_KEY",
    "RLFLEET_PLAY_KEY",
    "RLFLEET_SMTP_URL",
    "RLFLEET_VERIFIER_KEY",
    "UPSTREAM_API_KEY",
    "WANDB_API_KEY",
)
"""Every secret variable of a settings class, which may come in a file; a test holds it against the classes."""


def value_of(environ: Mapping[str, str | None], name: str) -> str | None:
    """What ``name`` holds, else the content of the file that ``name_FILE`` names, without one newline at its end.

    None without either. A variable that is set to nothing counts as unset.

    Raises:
        InvalidSettings: both are set; or the file cannot be read, is no text, or is empty. The secret is not shown.
    """
    given, path = environ.get(name), environ.get(f"{name}_FILE")
    if not path:
        return given or None
    if given:
        raise InvalidSettings(name, "<hidden>", f"{name} and {name}_FILE are both set: unset one of them")
    # Somebody may have put the secret itself there.
    shown = path if path.startswith("/") else "<hidden>"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        remedy = f"the file cannot be read ({error.strerror}): name a file that this account can read, or unset it"
        raise InvalidSettings(f"{name}_FILE", shown, remedy) from None
    except ValueError:
        raise InvalidSettings(f"{name}_FILE", shown, "name a file of UTF-8 text, or unset it") from None
    held = text.removesuffix("\n").removesuffix("\r")
    if not held:
        raise InvalidSettings(f"{name}_FILE", shown, f"the file is empty: put the value of {name} there, or unset it")
    return held


def resolve(environ: MutableMapping[str, str], names: Iterable[str] = SECRETS) -> None:
    """Put what files hold in place of the variables that name them.

    Raises:
        InvalidSettings: as in ``value_of``; nothing was changed then.
    """
    found = {name: held for name in names if environ.get(f"{name}_FILE") and (held := value_of(environ, name))}
    for name, held in found.items():
        environ[name] = held
        del environ[f"{name}_FILE"]


class SecretFiles:
    """Goes before ``BaseSettings`` among the bases of a settings class whose secrets may come in files."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: Any,
        init_settings: Any,
        env_settings: Any,
        dotenv_settings: Any,
        file_secret_settings: Any,
    ) -> tuple[Any, ...]:
        """The sources of pydantic-settings; that of the variables finds what files hold under their names."""
        # pydantic-settings compares names without case, and has them in lower case.
        environ = {name.upper(): value for name, value in env_settings.env_vars.items()}
        names = [one for field in settings_cls.model_fields.values() for one in _aliases(field.validation_alias)]
        filed = [name for name in names if name in SECRETS and environ.get(f"{name}_FILE")]
        env_settings.env_vars = {**env_settings.env_vars} | {name.lower(): value_of(environ, name) for name in filed}
        return init_settings, env_settings, dotenv_settings, file_secret_settings


def _aliases(alias: Any) -> list[str]:
    return [str(one) for one in getattr(alias, "choices", [alias])]
