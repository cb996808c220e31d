"""Where the judge answers, and what a verifier asks for. A variable set to nothing counts as unset."""

from __future__ import annotations

from functools import cache
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rl.errors import InvalidSettings
from rl.secret_files import SecretFiles

URL = "RLFLEET_JUDGE_URL"


class JudgeSettings(SecretFiles, BaseSettings):
    """The OpenAI-compatible server whose models judge, and the keys that it and verifiers ask for."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    url: str | None = Field(
        None, validation_alias=URL, description="OpenAI-compatible server of the judge, with its /v1"
    )
    key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("RLFLEET_JUDGE_KEY", "OPENPIPE_API_KEY"),
        description="bearer key that the judge asks for; the first that is set",
    )
    verifier_key: SecretStr | None = Field(
        None,
        validation_alias="RLFLEET_VERIFIER_KEY",
        description="bearer key that the verifier of held-out answers asks for, where it is a URL",
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not (value.startswith(("http://", "https://")) and urlsplit(value).hostname):
            raise ValueError("set it to an http:// or https:// URL, or unset it")
        return value

    def where(self) -> tuple[str, str]:
        """The server's address without a slash at its end, and the key; empty where none is needed.

        Raises:
            InvalidSettings: the address is not set.
        """
        if self.url is None:
            raise InvalidSettings(URL, None, "set it to the judge's OpenAI-compatible server, such as https://host/v1")
        return self.url.rstrip("/"), self.key.get_secret_value() if self.key else ""


@cache
def judge_settings() -> JudgeSettings:
    """The settings of this process, read on first use.

    Raises:
        InvalidSettings: a variable has a value that cannot be used. Values are not shown: a URL may hold a key.
    """
    try:
        return JudgeSettings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidSettings(str(first["loc"][0]), "<hidden>", str(first["msg"])) from None
