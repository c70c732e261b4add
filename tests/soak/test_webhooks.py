"""Webhooks as they come: twice, out of order, sent again long after. Each has one effect, the newest state stays."""

import json
import random
from collections import Counter
from pathlib import Path

import anyio
import httpx
import pytest

from tests.failure.process import Process, process
from tests.signing import signed
from tests.stack import Stack, stack
from tests.telling import assert_equal, ready, settled, versions

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

SECRET = "a-secret-of-this-shop"
PRODUCTS, WAVE, SENDERS = 300, 50, 8

Webhook = tuple[str, str]
"""Its id, and the product that changed."""


class Post:
    """Delivers webhooks to a process, many at once; what was answered, added up."""

    def __init__(self, here: Stack, to: Process) -> None:
        self._url = f"http://127.0.0.1:{to.said('listening')[0]['port']}/api/v1/hooks/{here.name}"
        self.answers: Counter[str] = Counter()

    async def deliver(self, webhooks: list[Webhook]) -> None:
        """All of them, in no order that could be relied on."""
        waiting = list(webhooks)

        async def sender() -> None:
            async with httpx.AsyncClient(timeout=60) as client:
                while waiting:
                    await self._one(client, *waiting.pop())

        async with anyio.create_task_group() as group:
            for _ in range(SENDERS):
                group.start_soon(sender)

    async def _one(self, client: httpx.AsyncClient, message: str, product: str) -> None:
        body = json.dumps({"events": [{"product_id": product}]}).encode()
        answer = await client.post(self._url, content=body, headers=signed(body, SECRET, message=message))
        assert answer.status_code == 202, answer.text
        self.answers.update(answer.json())


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_many_webhooks_have_one_effect_each(any_engine_url: str, tmp_path: Path, count: int) -> None:
    dice, secrets = random.Random(count), {"RESHELVE_WEBHOOK_SECRETS": json.dumps([SECRET])}
    async with stack(any_engine_url, tmp_path, works=False) as here:
        first = await here.work()
        products = await ready(here, PRODUCTS)
        await first.drain()
        async with process(here, RESHELVE_EMBEDDERS__HASHING__TIMEOUT="60", **secrets) as running:
            post, waiting, sent, ids = Post(here, running), [], [], sorted(products)
            while len(sent) < count // 2:
                changed = dice.sample(ids, WAVE)
                for one in changed:
                    products[one] = {**products[one], "name": [f"Lamp after {len(sent)} webhooks"]}
                here.shop.put(here.shop.alias, [(one, products[one]) for one in changed])
                waiting += [(f"msg-{len(sent)}-{number}", one) for number, one in enumerate(changed)]
                dice.shuffle(waiting)
                going, waiting = waiting[: len(waiting) // 2 + 1], waiting[len(waiting) // 2 + 1 :]
                sent += going
                await post.deliver([*going, *dice.choices(sent, k=len(going) // 2)])
            sent += waiting
            await post.deliver(waiting)
            rows = await settled(here, seconds=300)
            assert {(row.status, row.lives) for row in rows} == {("done", 0)}
            await assert_equal(here)
            before = versions(here, here.alias)
            await post.deliver(dice.choices(sent, k=count - post.answers["accepted"] - post.answers["duplicates"]))
            assert (post.answers["accepted"], post.answers["duplicates"]) == (len(sent), count - len(sent))
            assert len(await settled(here)) == len(rows)
            assert versions(here, here.alias) == before, "what is repeated does nothing"
            await assert_equal(here)
