"""What a person declares: catalogue, source, target, recipe, policy, in the shapes of the public contract.

Form only. Whether the source exists or the model answers is asked when a run is admitted, not here. Every model is
frozen and forbids unknown keys, so a misspelt option is an error and not a surprise.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
"""Names of catalogues, engines, embedders, tenants: lower case, at most 64 characters."""

FieldType = Literal["keyword", "text", "double", "float", "long", "integer", "boolean", "date"]

RESERVED_FIELDS = frozenset(
    {
        *("text", "text_hash", "content_hash", "input_hash", "embedding", "embed_model_alias", "embed_model_version"),
        *("source_id", "tenant", "lang", "updated_at"),
    }
)
"""Fields that every document in a target carries; a recipe cannot declare them."""


class Spec(BaseModel):
    """The base of all declared shapes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexSource(Spec):
    """The shop's own index, addressed by its alias or name in a named engine."""

    kind: Literal["index"] = "index"
    engine: Name = "main"
    index: Annotated[str, StringConstraints(min_length=1, max_length=255)]

    @field_validator("index")
    @classmethod
    def _one(cls, value: str) -> str:
        check_index_name(value.lower())  # an alias may have upper case
        return value


class FileSource(Spec):
    """A catalogue file below `FILES_DIR`."""

    kind: Literal["file"]
    path: str
    format: Literal["ndjson", "json", "csv"] = "ndjson"
    id: str = "id"


Source = Annotated[IndexSource | FileSource, Field(discriminator="kind")]


def check_index_name(name: str) -> str:
    """Return *name* when engines accept it as an index or alias name, else raise `ValueError`."""
    if not re.fullmatch(r"[^A-Z\\/*?\"<>| ,#:\x00-\x1f]{1,255}", name) or name[0] in "-_+" or name in {".", ".."}:
        raise ValueError(
            'must be a valid index name: lower case, none of \\ / * ? " < > | , # : or space, not starting with - _ +'
        )
    return name


class TargetSpec(Spec):
    """Where the generations live and the alias through which they are read."""

    engine: Name = "main"
    alias: str
    shards: int = Field(1, ge=1, le=64)
    replicas: int = Field(1, ge=0, le=10)
    refresh_interval: Annotated[str, StringConstraints(pattern=r"^(-1|\d+(ms|s|m))$")] = "1s"
    force_merge: Literal["full", "never"] = "full"
    settings: dict[str, Any] = {}

    @field_validator("alias")
    @classmethod
    def _alias(cls, value: str) -> str:
        if len(value) > 200:
            raise ValueError("must have at most 200 characters: index names are made from it")
        return check_index_name(value)


class FieldSpec(Spec):
    """One target field: its type, and where its value comes from (`from` defaults to its own name)."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    type: FieldType
    source: str | None = Field(None, alias="from")
    where: dict[str, Any] | None = None
    take: str | None = None


class VectorSpec(Spec):
    """How vectors are compared and indexed; `index: null` leaves the index type to the engine's default."""

    similarity: Literal["cosine", "dot_product", "l2_norm"] = "cosine"
    index: str | None = None


class EmbedderSpec(Spec):
    """Which embedder of the settings embeds this catalogue, with which model and how many dimensions."""

    provider: Name = "local"
    model: str | None = None
    dims: int | None = Field(None, ge=1, le=4096)
    base_url: str | None = None
    manifest: str | None = None


class RecipeSpec(Spec):
    """How a product becomes a document. `template` and `fields` of null mean: the default that suits the source."""

    template: str | None = Field(None, max_length=20_000)
    fields: dict[str, FieldSpec] | None = None
    exclude_when: dict[str, list[Any]] = {"status": [2], "visibility": [1, 2]}
    analyzer: str = "standard"
    max_chars: int = Field(8000, ge=1, le=1_000_000)
    lang: str = "und"
    vector: VectorSpec = VectorSpec()
    embedder: EmbedderSpec = EmbedderSpec()

    @field_validator("fields", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"type": spec} if isinstance(spec, str) else spec for name, spec in value.items()}

    @field_validator("fields")
    @classmethod
    def _field_names(cls, value: dict[str, FieldSpec] | None) -> dict[str, FieldSpec] | None:
        for name in value or {}:
            if name in RESERVED_FIELDS or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", name):
                why = "is reserved or has characters other than letters, digits, _ and -"
                raise ValueError(f"field name {name[:40]!r} {why}")
        return value


class ShrinkSpec(Spec):
    """A shrink is suspicious when both limits are passed."""

    documents: int = Field(50, ge=0)
    percent: float = Field(10, ge=0, le=100)


class PolicySpec(Spec):
    """When runs start, what they may do, what is kept."""

    keep: int = Field(3, ge=1, le=100)
    keep_daily: int = Field(0, ge=0, le=366)
    rollback_window: int = Field(1, ge=0, le=10)
    priority_fields: list[str] = ["price", "is_out_of_stock"]
    max_reject_percent: float = Field(5, ge=0, le=100)
    settle_seconds: float = Field(10, ge=0, le=3600)
    shrink: ShrinkSpec = ShrinkSpec()
    delta_percent: float = Field(30, ge=0, le=100)
    queries: list[str] = []
    qrels: str | None = None
    overlap_floor: float | None = Field(None, ge=0, le=1)
    changes_threshold: int = Field(10, ge=1)
    minutes_threshold: float = Field(5, gt=0)
    schedule: str | None = None
    window: str | None = None
    repair_hours: float = Field(24, ge=0)
    runs_per_hour: int = Field(10, ge=1)
    retries: int = Field(3, ge=0, le=20)
    retry_delay: float = Field(60, ge=0)


class CatalogueSpec(Spec):
    """One catalogue, as `PUT /catalogues/{name}` takes it."""

    tenant: Name = "default"
    source: Source
    target: TargetSpec
    recipe: RecipeSpec = RecipeSpec()
    policy: PolicySpec = PolicySpec()

    @field_validator("source", mode="before")
    @classmethod
    def _index_by_default(cls, value: Any) -> Any:
        return {"kind": "index", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _not_its_own_source(self) -> "CatalogueSpec":
        source, target = self.source, self.target
        if isinstance(source, IndexSource) and (source.engine, source.index) == (target.engine, target.alias):
            raise ValueError("source.index and target.alias are the same: the source is never written")
        return self
