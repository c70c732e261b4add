"""One product after the other, chosen by one seeded generator, before it takes the shape of an index document.

The same seed gives the same goods on every machine, and the first n of many are the same as n alone. Names are
distinct: line, kind, material and trait are the digits of one number that walks through all combinations in a jumbled
order; when all have been used, names go on with "Mk 2".
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal, NamedTuple

from app.demo.shop import Kind, Shop, the_shop

Form = Literal["plain", "glued", "entities", "escaped_twice", "page_builder", "leftovers", "empty", "missing"]

FORMS: tuple[tuple[Form, int], ...] = (
    ("plain", 530),
    ("glued", 180),
    ("entities", 110),
    ("escaped_twice", 50),
    ("page_builder", 60),
    ("leftovers", 40),
    ("empty", 15),
    ("missing", 15),
)
"""How a description is damaged, and how many products of 1,000 have it so."""

SKELETONS = 10
"""Of 1,000: out of stock, so that only a skeleton without a name is left."""

DISABLED = 5
"""Of 1,000: switched off in the shop, still in its index (`status` 2)."""

CATALOGUE_ONLY = 15
"""Of 1,000: found by browsing only (`visibility` 2)."""

SEARCH_ONLY = 15
"""Of 1,000: found by searching only (`visibility` 3)."""

SOLD_OUT = 40
"""Of 1,000: out of stock, but shown."""


class Good(NamedTuple):
    """One product. `number` counts from 0, `entity` is the shop's own id; `sentences` and `features` are plain text."""

    number: int
    entity: int
    kind: Kind
    line: int
    material: int
    use: int
    colours: tuple[int, ...]
    tag: int | None
    name: str
    sku: str
    sentences: Sequence[str]
    features: Sequence[str]
    form: Form
    cents: int
    discount: int
    skeleton: bool
    status: int
    visibility: int
    sold_out: bool
    quantity: int

    @property
    def composite(self) -> bool:
        """Whether it has children, one for each size and colour."""
        return bool(self.kind.sizes)

    @property
    def children(self) -> Iterator[tuple[str, str]]:
        """`(size, colour)` of each child."""
        labels = [the_shop().colours[colour] for colour in self.colours]
        return ((size, colour) for size in self.kind.sizes for colour in labels)


def goods(count: int, seed: int = 1, long: bool = False) -> Iterator[Good]:
    """*count* products, one by one; *long* makes descriptions of about 1,260 characters."""
    shop = the_shop()
    random, names = Random(seed), _names(shop, seed)  # noqa: S311 - it makes goods, not secrets
    entity = 0
    for number in range(count):
        bits = random.getrandbits(64), random.getrandbits(64)
        good = _good(shop, (number, entity + 1), next(names), bits, long)
        entity = good.entity + len(good.kind.sizes) * len(good.colours)
        yield good


Named = tuple[Kind, int, int, str]
"""Kind, line, material, name."""


def _names(shop: Shop, seed: int) -> Iterator[Named]:
    """Never the same name twice."""
    kinds, lines = len(shop.kinds), len(shop.lines)
    traits, materials = len(shop.kinds[0].traits), len(shop.kinds[0].materials)
    total, step, place = kinds * lines * traits * materials, 60_757, seed * 7_919
    titles = {kind.noun: [_title(material) for material in kind.materials] for kind in shop.kinds}
    made = 0
    while True:
        rest, kind_at = divmod(place % total, kinds)
        rest, line = divmod(rest, lines)
        material, trait = divmod(rest, traits)
        kind = shop.kinds[kind_at]
        name = f"{shop.lines[line]} {kind.traits[trait]} {titles[kind.noun][material]} {kind.noun}"
        yield kind, line, material, name if made < total else f"{name} Mk {made // total + 1}"
        made, place = made + 1, place + step


def _title(words: str) -> str:
    """As a shop writes it in a name: "Full-Grain Leather"."""
    return " ".join(word if word in {"and", "of"} else word[:1].upper() + word[1:] for word in words.split())


def _good(shop: Shop, place: tuple[int, int], named: Named, bits: tuple[int, int], long: bool) -> Good:
    number, entity = place
    kind, line, material, name = named
    more, dice = bits
    use, first = dice & 3, (dice >> 2) % len(shop.colours)
    colours = _colours(first, (dice >> 8) % 4, len(shop.colours)) if kind.sizes else (first,)
    low, high = kind.cents
    status, visibility = _state((dice >> 24) % 1000)
    return Good(
        number, entity, kind, line, material, use, colours,
        tag=(dice >> 12) % len(shop.tags) if (dice >> 16) & 7 == 0 else None,
        name=name,
        sku=f"{kind.code}-{number:06d}",
        sentences=_sentences(shop, kind, _slots(shop, kind, (line, material, use, first)), more, long),
        features=kind.features if dice >> 20 & 3 else kind.features[:2],
        form=_FORMS[(more >> 40) % 1000],
        cents=low + (more >> 20) % (high - low) // 50 * 50 + 45,
        discount=10 if dice >> 60 & 7 == 0 else 0,
        skeleton=(more >> 50) % 1000 < SKELETONS,
        status=status,
        visibility=visibility,
        sold_out=(dice >> 36) % 1000 < SOLD_OUT,
        quantity=1 + (dice >> 48) % 250,
    )  # fmt: skip


_FORMS: tuple[Form, ...] = tuple(form for form, share in FORMS for _ in range(share))


def _colours(first: int, further: int, of: int) -> tuple[int, ...]:
    steps = (0, 3, 7) if further == 3 else (0, further)
    return tuple(sorted({(first + step) % of for step in steps}))


def _state(dice: int) -> tuple[int, int]:
    """`(status, visibility)`: 1 on, 2 off; 2 catalogue, 3 search, 4 both."""
    if dice < DISABLED:
        return 2, 4
    if dice < DISABLED + CATALOGUE_ONLY:
        return 1, 2
    return 1, 3 if dice < DISABLED + CATALOGUE_ONLY + SEARCH_ONLY else 4


def _slots(shop: Shop, kind: Kind, chosen: tuple[int, int, int, int]) -> dict[str, str]:
    """What sentences leave open, from the numbers of line, material, use and colour."""
    line, material, use, colour = chosen
    return {
        "noun": kind.noun.lower(),
        "line": shop.lines[line],
        "material": kind.materials[material],
        "use": kind.uses[use],
        "colour": shop.colours[colour].lower(),
    }


def _sentences(shop: Shop, kind: Kind, slots: dict[str, str], dice: int, long: bool) -> list[str]:
    first, second = dice % len(shop.general), (dice >> 6) % len(shop.general)
    chosen = [*kind.says, shop.general[first]]
    if second != first and dice >> 12 & 1:
        chosen.append(shop.general[second])
    if long:
        chosen += shop.long[:5] if dice >> 13 & 1 else shop.long[3:]
        chosen.append(shop.long[-1 if dice >> 13 & 1 else 0])
    return [text.format_map(slots) if "{" in text else text for text in chosen]
