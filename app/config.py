"""Settings: one object, built once from the environment, passed down; nothing else reads the environment."""

import base64
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PRICES = {"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13, "text-embedding-ada-002": 0.10}
"""US dollars for a million tokens, as OpenAI listed them in 2025; `PRICES` of the settings is laid over these."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class EngineSettings(BaseModel):
    """One search cluster. Its kind, version and abilities are asked, not told.

    `vectors` is the index of kept vectors: installations that share a cluster share them under the same name.
    """

    model_config = ConfigDict(extra="forbid")

    url: str = "http://127.0.0.1:9200"
    username: str | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    ca_certs: Path | None = None
    vectors: str = Field("reshelve-vectors", pattern=r"^[a-z0-9][a-z0-9_.-]{0,127}$")


class EmbedderSettings(BaseModel):
    """One embedding endpoint. A key goes only to `url`; `allow_urls` are addresses that catalogues may name.

    `timeout` is how many seconds one request may take before it is cut.
    """

    model_config = ConfigDict(extra="forbid")

    url: str | None = None
    api_key: SecretStr | None = None
    allow_urls: Annotated[list[str], NoDecode] = []
    timeout: float = Field(60, gt=0)

    @field_validator("allow_urls", mode="before")
    @classmethod
    def _addresses(cls, value: Any) -> Any:
        """A JSON list, or addresses with commas between them."""
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()


class AuthSettings(BaseModel):
    """Who may call. `tokens` maps a name to the SHA-256 (hex) of its token."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["loopback", "token", "jwt"] = "loopback"
    tokens: dict[str, str] = {}

    @field_validator("tokens")
    @classmethod
    def _digests(cls, value: dict[str, str]) -> dict[str, str]:
        for name, digest in value.items():
            if len(digest) != 64 or any(c not in "0123456789abcdef" for c in digest.lower()):
                why = "must be the SHA-256 of the token in hex: printf %s TOKEN | sha256sum"
                raise ValueError(f"AUTH__TOKENS[{name}] {why}")
        return {name: digest.lower() for name, digest in value.items()}


class Settings(BaseSettings):
    """All settings, prefix `RESHELVE_`, nested with `__`; secrets also as files in `RESHELVE_SECRETS_DIR`."""

    model_config = SettingsConfigDict(
        env_prefix="RESHELVE_", env_nested_delimiter="__", extra="ignore", secrets_dir_missing="error"
    )

    database_url: SecretStr = SecretStr("sqlite+aiosqlite:///./reshelve.db")
    engines: dict[str, EngineSettings] = {}
    embedders: dict[str, EmbedderSettings] = {}
    openai_base_url: str | None = Field(None, validation_alias=AliasChoices("OPENAI_BASE_URL"))
    openai_api_key: SecretStr | None = Field(None, validation_alias=AliasChoices("OPENAI_API_KEY"))
    catalogues_file: Path | None = None
    embedding_concurrency: int = Field(2, ge=1, le=64)
    bulk_concurrency: int = Field(2, ge=1, le=64)
    bulk_bytes: int = Field(5_000_000, ge=10_000, le=90_000_000)
    slices: int = Field(2, ge=1, le=64)
    stall_deadline: float = Field(600, gt=0)
    lease_seconds: float = Field(30, ge=1)
    files_dir: Path | None = None
    retention_days: int = Field(90, ge=1)
    webhook_secrets: Annotated[list[SecretStr], NoDecode] = []
    events_most: int = Field(100_000, ge=1)
    event_appliers: int = Field(2, ge=1, le=32)
    auth: AuthSettings = AuthSettings()
    prices: dict[str, float] = {}
    vectors_days: float = Field(30, gt=0)
    vectors_most: int = Field(10_000_000, ge=0)
    offline: bool = False
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    drain_seconds: float = Field(20, ge=0)
    ready_needs_engines: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("webhook_secrets", mode="before")
    @classmethod
    def _secrets(cls, value: Any) -> Any:
        """A JSON list, or secrets with commas between them."""
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()

    @field_validator("webhook_secrets")
    @classmethod
    def _keys(cls, value: list[SecretStr]) -> list[SecretStr]:
        for secret in value:
            told = secret.get_secret_value()
            try:
                key = base64.b64decode(told.removeprefix("whsec_"), validate=True) if told[:6] == "whsec_" else told
            except ValueError:
                raise ValueError("WEBHOOK_SECRETS: what follows whsec_ must be base64") from None
            if len(key) < 16:
                raise ValueError("WEBHOOK_SECRETS: a secret has at least 16 bytes: openssl rand -base64 32")
        return value

    @model_validator(mode="after")
    def _defaults(self) -> "Settings":
        self.engines.setdefault("main", EngineSettings())
        self.embedders.setdefault("local", EmbedderSettings())
        openai = self.embedders.setdefault("openai", EmbedderSettings())
        if self.openai_base_url and openai.url:
            openai.allow_urls = [*openai.allow_urls, self.openai_base_url]
        elif not openai.url:  # the key that every tool reads is not for an address that only we were told
            openai.url = self.openai_base_url
            openai.api_key = openai.api_key or self.openai_api_key
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A file may be called like a nested variable too: `RESHELVE_ENGINES__MAIN__PASSWORD`."""
        return init_settings, env_settings, dotenv_settings, NestedSecretsSettingsSource(file_secret_settings)

    def price(self, provider: str, model: str) -> float | None:
        """US dollars for a million tokens of *model*, None when nobody said; what runs here costs nothing."""
        return 0.0 if provider in ("local", "hashing") else {**PRICES, **self.prices}.get(model)

    @cached_property
    def is_loopback(self) -> bool:
        """True when the service listens on this machine only."""
        return self.host in LOOPBACK


def load_settings() -> Settings:
    """Read the environment; `RESHELVE_SECRETS_DIR` names a folder of files called like the variables."""
    import os

    secrets = os.environ.get("RESHELVE_SECRETS_DIR")
    return Settings(_secrets_dir=secrets) if secrets else Settings()
