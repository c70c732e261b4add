"""What a run will do, and everything that would make it fail, found before anything is built and told at once.

The same checks answer `POST /sync` and begin the run itself: minutes may lie between the two.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from app.errors import Problem, Refused
from app.spec import CatalogueSpec, RecipeSpec
from app.sync import recipe as recipes
from app.sync.ports import Embedder, Live, Source
from app.sync.words import ModelStamp, Shape

Findings = list[dict[str, str]]

GRAPH_LATER_BYTES = 2**30
"""Vectors whose graph may wait for the merge: above this, one merge to build it all would take too long."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that may begin: the recipe with its defaults filled in, the model that answered, the shape of the draft.

    `base` is the live generation where it is ours; the draft is a clone of it where the plan `clones`, and there is no
    draft but the live generation itself where it `repairs`; `why` says what decided that.
    """

    spec: CatalogueSpec
    recipe: RecipeSpec
    recipe_hash: str
    stamp: ModelStamp
    shape: Shape
    products: int
    base: Live | None = None
    clones: bool = False
    repairs: bool = False
    why: str = ""

    @property
    def strategy(self) -> str:
        """What the run does."""
        return "repair" if self.repairs else "incremental" if self.clones else "full"

    @property
    def graph_later(self) -> bool:
        """Whether the draft is loaded without the graph of its vectors; a clone has its graph already."""
        return self.shape.graph_later and not self.builds_on

    @property
    def builds_on(self) -> bool:
        """Whether unchanged products need nothing: they are in what the run writes to already."""
        return self.clones or self.repairs


async def plan(
    spec: CatalogueSpec,
    source: Source | None,
    embedder: Embedder | None,
    alias_findings: Callable[[], Awaitable[Sequence[Mapping[str, str]]]],
    found: Findings,
) -> Plan:
    """The plan of a full run. Raises `Refused` with every finding `{"code", "detail"}`.

    *found* holds what is wrong already; a source or an embedder that could not even be opened is None and in there.
    Trouble that passes (an engine or a model out of reach) is a finding too: nothing has been built that could wait.
    """
    stamp = await asked(embedder.ready(), found) if embedder else None
    properties = await asked(source.properties(), found) if source else None
    products = await asked(source.count(), found) if source and properties is not None else None
    found += [dict(finding) for finding in await asked(alias_findings(), found) or ()]
    if products == 0:
        found.append({"code": "source_empty", "detail": "The source holds no product: a run would empty the target."})
    recipe = recipes.resolve(spec.recipe, properties) if properties is not None else None
    if found or stamp is None or recipe is None or products is None:
        raise refused(found)
    shape = shape_of(spec, recipe, stamp, products)
    built = {"tenant": spec.tenant, "settings": spec.target.settings}
    return Plan(spec, recipe, recipes.recipe_hash(recipe, stamp, built), stamp, shape, products)


async def asked(question: Awaitable[T], found: Findings) -> T | None:
    """The answer, or None and one more finding."""
    try:
        return await question
    except Problem as problem:
        found.append({"code": problem.code, "detail": problem.detail})
        return None


def refused(found: Findings) -> Refused:
    """All findings as one error, each told once; its code is the finding's own when there is just one."""
    found = list({(finding["code"], finding["detail"]): finding for finding in found}.values())
    detail = " ".join(dict.fromkeys(finding["detail"] for finding in found))
    return Refused(detail, code=found[0]["code"] if len(found) == 1 else "refused", findings=found)


def shape_of(spec: CatalogueSpec, recipe: RecipeSpec, stamp: ModelStamp, products: int) -> Shape:
    """How a draft of this catalogue is built."""
    return Shape(
        fields=recipes.shape_fields(recipe),
        dims=stamp.dims,
        similarity=recipe.vector.similarity,
        vector_index=recipe.vector.index,
        analyzer=recipe.analyzer,
        shards=spec.target.shards,
        settings=spec.target.settings,
        graph_later=spec.target.force_merge == "full" and products * stamp.dims * 4 <= GRAPH_LATER_BYTES,
    )
