"""An engine whose calls fail, or answer in vain, or arrive late, when a test says so."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from app.errors import EngineUnavailable


class Died(BaseException):
    """The process that called ended here, as suddenly as an end can be."""


Hook = Callable[[], Awaitable[None]]


@dataclass
class Unsteady:
    """Passes everything on to *engine*, but for what was planned."""

    engine: Any
    calls: list[str] = field(default_factory=list)
    _unheard: dict[str, int] = field(default_factory=dict)
    _unanswered: dict[str, int] = field(default_factory=dict)
    _before: dict[str, Hook] = field(default_factory=dict)

    def unheard(self, method: str, times: int = 1) -> None:
        """The next calls never reach the engine."""
        self._unheard[method] = times

    def unanswered(self, method: str, times: int = 1) -> None:
        """The next calls are done, and nobody hears of it."""
        self._unanswered[method] = times

    def before(self, method: str, hook: Hook) -> None:
        """Something happens just before the next call arrives."""
        self._before[method] = hook

    def dies(self, method: str, after: str | None = None) -> None:
        """Whoever makes the next call dies before it arrives; with *after*, the next one after a call of that."""

        async def die() -> None:
            raise Died

        async def arm() -> None:
            self.before(method, die)

        self.before(after, arm) if after else self.before(method, die)

    def steady(self) -> None:
        self._unheard.clear()
        self._unanswered.clear()

    def __getattr__(self, method: str) -> Any:
        call = getattr(self.engine, method)

        async def passed_on(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(method)
            if hook := self._before.pop(method, None):
                await hook()
            if _due(self._unheard, method):
                raise EngineUnavailable("not heard")
            answer = await call(*args, **kwargs)
            if _due(self._unanswered, method):
                raise EngineUnavailable("not answered")
            return answer

        return passed_on


def _due(planned: dict[str, int], method: str) -> bool:
    planned[method] = planned.get(method, 0) - 1
    return planned[method] >= 0
