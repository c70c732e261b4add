"""What can be asked, and the bounds of it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.errors import NotSupportedYet

Mode = Literal["vector", "lexical", "hybrid"]


class Ask(BaseModel):
    """One search. `filter` maps a field to a value, a list of values, or `{"gte", "lte"}`; all of them must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str = Field(max_length=2000)
    mode: Mode = "vector"
    k: int = Field(10, ge=1, le=100)
    filter: dict[str, Any] | None = Field(None, max_length=20)
    generation: str | None = Field(None, min_length=1, max_length=255)
    mmr: Any = None
    explain: bool = False

    @field_validator("query")
    @classmethod
    def _words(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must hold at least one word")
        return value.strip()

    def check(self) -> None:
        """Raise `NotSupportedYet` for what is part of the contract and not built."""
        wanted = {"mmr": self.mmr is not None, "explain": self.explain}
        why = "is not built yet: leave it out"
        if missing := [{"where": f"body.{name}", "why": why} for name, used in wanted.items() if used]:
            raise NotSupportedYet("Parts of this search are not built yet: see errors.", errors=missing)
