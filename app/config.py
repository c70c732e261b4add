"""Settings: one object, built once from the environment, passed down; nothing else reads the environment."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class EngineSettings(BaseModel):
    """One search cluster. Its kind, version and abilities are asked, not told."""

    model_config = ConfigDict(extra="forbid")

    url: str = "http://127.0.0.1:9200"
    username: str | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    ca_certs: Path | None = None


class EmbedderSettings(BaseModel):
    """One embedding endpoint. A key goes only to `url`; `allow_urls` are addresses that catalogues may name."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = None
    api_key: SecretStr | None = None
    allow_urls: list[str] = []


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
                raise ValueError(f"AUTH__TOKENS[{name}] must be the SHA-256 of the token in hex: printf %s TOKEN | sha256sum")
        return {name: digest.lower() for name, digest in value.items()}


class Settings(BaseSettings):
    """All settings, prefix `RESHELVE_`, nested with `__`; secrets also as files in `RESHELVE_SECRETS_DIR`."""

    model_config = SettingsConfigDict(env_prefix="RESHELVE_", env_nested_delimiter="__", extra="ignore")

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
    webhook_secrets: list[SecretStr] = []
    auth: AuthSettings = AuthSettings()
    offline: bool = False
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    drain_seconds: float = Field(20, ge=0)
    ready_needs_engines: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="after")
    def _defaults(self) -> "Settings":
        self.engines.setdefault("main", EngineSettings())
        self.embedders.setdefault("local", EmbedderSettings())
        openai = self.embedders.setdefault("openai", EmbedderSettings())
        openai.url = openai.url or self.openai_base_url
        openai.api_key = openai.api_key or self.openai_api_key
        return self

    @cached_property
    def is_loopback(self) -> bool:
        """True when the service listens on this machine only."""
        return self.host in LOOPBACK


def load_settings() -> Settings:
    """Read the environment; `RESHELVE_SECRETS_DIR` names a folder of files called like the variables."""
    import os

    secrets = os.environ.get("RESHELVE_SECRETS_DIR")
    return Settings(_secrets_dir=secrets) if secrets else Settings()
