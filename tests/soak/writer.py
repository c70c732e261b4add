"""The shop's owner who never stops: products change, come and go, are left out by rule, and are indexed anew.

Every change is one request to the shop's index that was answered; only then is it told of. A product that is indexed
anew is deleted first, as Magento does it, and told of once it is back; sometimes also while it is away.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import orjson

from app.demo.catalogue import mapping
from tests.soak.journal import Journal
from tests.soak.road import Road
from tests.stack import Shop, stock

Source = dict[str, Any]

SETTLE = 0.4
"""The settle time of the catalogue, in seconds: a product is away for less or more than that."""

ACTS = {
    "price": 30, "stock": 15, "name": 12, "spurious": 3, "disable": 3, "add": 8, "delete": 8, "away": 12, "refresh": 5,
    "import": 5, "moved": 1,
}  # fmt: skip
"""What the owner does, and how often in a hundred times."""


class Writer:
    """One shop, changed by dice. *pause* is the longest time between two acts, in seconds."""

    def __init__(self, shop: Shop, road: Road, journal: Journal, seed: int, pause: float = 0.015) -> None:
        self._shop, self._road, self._journal = shop, road, journal
        self._dice = random.Random(seed)
        self._goods: dict[str, Source] = {}
        self._returning: list[tuple[float, str, Source]] = []
        self._pause, self._turns = pause, 0
        self._client = httpx.AsyncClient(base_url=shop.url, timeout=60, verify=False)

    def open(self, products: int) -> None:
        """A shop with some goods in it."""
        self._goods = dict(stock(products))
        self._shop.fill(self._goods.items())

    async def run(self, over: anyio.Event) -> None:
        """Until it is over; then everything is brought back and told."""
        written = anyio.Event()
        async with self._client, anyio.create_task_group() as group:
            group.start_soon(self._road.run, written)
            await self._write(over)
            written.set()

    async def _write(self, over: anyio.Event) -> None:
        acts, weights = list(ACTS), list(ACTS.values())
        while not over.is_set():
            await self._returned(time.monotonic())
            await self._act(self._dice.choices(acts, weights)[0])
            await anyio.sleep(self._dice.uniform(0, self._pause))
        await self._returned(float("inf"))

    async def _act(self, name: str) -> None:
        self._turns += 1
        await getattr(self, f"_{name}")()

    # --- acts ---

    async def _price(self) -> None:
        await self._changed("price", lambda source: source.update(price_0_1=f"{self._turns}.250000"))

    async def _stock(self) -> None:
        await self._changed("stock", lambda source: source.update(is_out_of_stock=self._turns % 2))

    async def _name(self) -> None:
        await self._changed("name", lambda source: source.update(name=f"lamp number {self._turns}"))

    async def _disable(self) -> None:
        """Left out by rule, or shown again."""
        await self._changed("disable", lambda source: source.update(status=3 - int(source.get("status", 1))))

    async def _import(self) -> None:
        """Many prices at once."""
        ids = self._dice.sample(list(self._goods), min(20, len(self._goods)))
        changed = {one: {**self._goods[one], "price_0_1": f"{self._turns}.500000"} for one in ids}
        lines = [part for one, source in changed.items() for part in ({"index": {"_id": one}}, source)]
        await self._bulk(self._shop.alias, lines)
        self._goods.update(changed)
        for one, source in changed.items():
            self._journal.say("change", product=one, act="import", price_0_1=source["price_0_1"])
            self._road.tell(one)

    async def _spurious(self) -> None:
        """Told of, though nothing changed, or of what never was there."""
        self._road.tell(self._dice.choice([*self._goods, "nobody"]))

    async def _add(self) -> None:
        product_id, like = f"new-{self._turns}", self._goods[self._any()]
        await self._put("add", product_id, {**like, "sku": product_id, "name": f"new thing {self._turns}", "status": 1})
        self._road.tell(product_id)

    async def _delete(self) -> None:
        product_id = self._any()
        if len(self._goods) > 20:
            await self._take("delete", product_id)
            self._road.tell(product_id, self._dice.choice(("delete", "upsert")))

    async def _away(self) -> None:
        """Deleted, to be indexed anew in a moment, perhaps in another form."""
        product_id = self._any()
        source = await self._take("away", product_id)
        if self._dice.random() < 0.4:
            self._road.tell(product_id, self._dice.choice(("delete", "upsert")))
        if self._dice.random() < 0.5:
            source = {**source, "price_0_1": f"{self._turns}.750000"}
        self._returning.append((time.monotonic() + self._dice.uniform(0, 3 * SETTLE), product_id, source))

    async def _refresh(self) -> None:
        await self._ask("POST", f"/{self._shop.alias}/_refresh")

    async def _moved(self) -> None:
        """The whole shop is indexed anew: another index under the alias, the one before is deleted."""
        index = f"{self._shop.alias}-v{len(self._shop.indices) + 1}"
        await self._ask("PUT", f"/{index}", mapping("magento", "elasticsearch"))
        lines = [part for key, source in self._goods.items() for part in ({"index": {"_id": key}}, source)]
        await self._bulk(index, lines)
        moves = [
            {"add": {"index": index, "alias": self._shop.alias}},
            {"remove_index": {"index": self._shop.indices[-1]}},
        ]
        await self._ask("POST", "/_aliases", {"actions": moves})
        self._shop.indices.append(index)
        self._journal.say("change", product="", act="moved", index=index)

    # --- how ---

    def _any(self) -> str:
        return self._dice.choice(list(self._goods))

    async def _changed(self, act: str, change: Callable[[Source], None]) -> None:
        product_id = self._any()
        source = dict(self._goods[product_id])
        change(source)
        await self._put(act, product_id, source)
        self._road.tell(product_id)

    async def _returned(self, now: float) -> None:
        """Those whose time has come are back."""
        due, self._returning = (
            [one for one in self._returning if one[0] <= now],
            [one for one in self._returning if one[0] > now],
        )
        for _, product_id, source in due:
            await self._put("back", product_id, source)
            self._road.tell(product_id)

    async def _put(self, act: str, product_id: str, source: Source) -> None:
        await self._bulk(self._shop.alias, [{"index": {"_id": product_id}}, source])
        self._goods[product_id] = source
        shown = {name: source.get(name) for name in ("name", "price_0_1", "is_out_of_stock", "status")}
        self._journal.say("change", product=product_id, act=act, **shown)

    async def _take(self, act: str, product_id: str) -> Source:
        await self._bulk(self._shop.alias, [{"delete": {"_id": product_id}}])
        self._journal.say("change", product=product_id, act=act)
        return self._goods.pop(product_id)

    async def _bulk(self, index: str, lines: list[Any]) -> None:
        body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        answer = await self._client.post(f"/{index}/_bulk", content=body, headers={"Content-Type": "application/json"})
        said = answer.raise_for_status().json()
        assert not said["errors"], said["items"][:1]

    async def _ask(self, method: str, path: str, body: Any = None) -> None:
        (await self._client.request(method, path, json=body)).raise_for_status()
