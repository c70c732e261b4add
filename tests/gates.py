"""Gates of another kind than the plain one, and a recipe for runs that are not about vectors."""

from collections.abc import Callable
from typing import Any

from app.errors import Problem
from tests.stack import Gate, Stack, ask

QUICK = {"embedder": {"provider": "hashing", "dims": 32}}
"""A recipe whose vectors cost nothing: words are counted."""


class Later(Gate):
    """Lets some calls pass before it stops one."""

    def __init__(self, passing: int) -> None:
        super().__init__()
        self._passing = passing

    async def passed(self) -> None:
        """Counts those who pass."""
        self._passing -= 1
        if self._passing < 0:
            await super().passed()


class Watched(Gate):
    """Always open; keeps what every call was answered with, or which problem it met."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[tuple[Any, ...], Any]] = []
        self.problems: list[Problem] = []

    async def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The call as it comes."""
        try:
            answer = await method(*args, **named)
        except Problem as problem:
            self.problems.append(problem)
            raise
        self.answers.append((args, answer))
        return answer


def documents(here: Stack, index: str) -> dict[str, dict[str, Any]]:
    """All documents of one index, as somebody else reads them."""
    ask(here.url, "POST", f"/{index}/_refresh")
    found = ask(here.url, "GET", f"/{index}/_search?size=10000")["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in found}
