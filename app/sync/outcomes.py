"""What applying events takes and gives: what was told, what there is to feed, what became of each product."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import inf

from app.errors import EngineError, Problem
from app.spec import RecipeSpec
from app.sync.engine_port import Engine, VectorStore
from app.sync.limits import Limits
from app.sync.ports import Embedder, Source
from app.sync.vectors import Figures
from app.sync.words import Reject

ABSENT = "absent"
"""The code of a deletion that took nothing from readers."""

UNCHANGED = "unchanged"
"""The code of an entry that is looked at once more: what it told of is everywhere already."""

WITHHELD, WITHHELD_SECONDS = "withheld", 30.0
"""The code of a deletion that the guard holds back, and when it is looked at again."""


@dataclass(frozen=True, slots=True)
class Told:
    """A product of which an event tells. `missing_for` is how many seconds ago it was missing first, None when it was
    not; `looked` that nothing had changed when it was looked at before."""

    product_id: str
    missing_for: float | None = None
    looked: bool = False


# --- outcomes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """Every fed generation has it as the source does."""

    deleted: bool = False
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot be applied as it is, ever."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Later:
    """To be looked at again after *seconds*. `missing` says whether the source lacks it, None when nobody knows;
    `counts` that this was one of its attempts, `looked` that nothing had changed."""

    code: str
    seconds: float = 0.0
    detail: str = ""
    missing: bool | None = None
    counts: bool = False
    looked: bool = False


Outcome = Done | Failed | Later

WEIGHTS: tuple[type[Outcome], ...] = (Done, Failed, Later)
"""What fails in one generation may have to wait for another one, and is over only afterwards."""


# --- generations -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fed:
    """A generation that is fed, and what it takes to feed it."""

    generation: str
    index: str
    state: str
    recipe: RecipeSpec
    tenant: str
    embedder: Embedder


@dataclass(frozen=True)
class Reach:
    """What an applier works with for one catalogue; *live* is among *fed* when there is one.

    *permit* takes the ids of products that readers have and would lose, and gives back those that may go. After
    *until*, by the monotonic clock, nothing is written any more.
    """

    source: Source
    target: Engine
    store: VectorStore
    limits: Limits
    figures: Figures
    fed: Sequence[Fed]
    settle_seconds: float
    permit: Callable[[Collection[str]], Awaitable[Collection[str]]]
    source_name: str = "source"
    target_name: str = "target"
    until: float = inf

    @property
    def live(self) -> Fed | None:
        """The one that readers have."""
        return next((one for one in self.fed if one.state == "live"), None)


class FeedMissing(EngineError):
    """A fed generation, or the alias through which events write to it, is gone."""

    code = "feed_missing"


# --- altogether ------------------------------------------------------------------------------------------------------


@dataclass
class Applied:
    """What became of the products; `newest` is the largest version that stood in the way of a write, `hashes` are the
    inputs of what was written for readers, `speechless` the generations whose model gave no vectors, with its trouble,
    and `spoke` those whose model did.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    newest: int = 0
    hashes: dict[str, str] = field(default_factory=dict)
    speechless: list[tuple[Fed, Problem]] = field(default_factory=list)
    spoke: list[Fed] = field(default_factory=list)

    def note(self, product_id: str, outcome: Outcome) -> None:
        """What became of a product in some generation; the weightier one stays."""
        known = self.outcomes.setdefault(product_id, outcome)
        if WEIGHTS.index(type(outcome)) > WEIGHTS.index(type(known)):
            self.outcomes[product_id] = outcome

    def refuse(self, rejects: Sequence[Reject]) -> None:
        """These cannot be as they are."""
        for one in rejects:
            self.note(one.product_id, Failed(one.code, one.detail))
