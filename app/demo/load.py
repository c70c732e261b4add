"""The shop's indexer: fills a source index and puts its alias on it. It plays the shop and knows no engine adapter.

Order: index (its `_meta` says what it will hold), documents, refresh, alias. The alias comes last, so one that exists
stands on a whole index; whoever was killed half-way begins again. An index without our `_meta` is never deleted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import orjson

from app.errors import Conflict, EngineError, EngineUnavailable

ALIAS = "magento2_product_1"

BULK_BYTES = 4_000_000

PATIENCE = 8
"""How often a bulk is sent while the engine answers 429; the waits double from a quarter of a second."""

Products = Iterable[tuple[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The source index as it stands; `fresh` is False when it was there already."""

    index: str
    documents: int
    fresh: bool


async def load(url: str, products: Products, body: dict[str, Any], mark: str, alias: str = ALIAS) -> Loaded:
    """See that *alias* on the engine at *url* holds *products*; *body* creates the index, *mark* names this content.

    The same mark again costs one look. Raises `EngineUnavailable`, `EngineError`, `Conflict` (names are taken).
    """
    index = f"{alias}_v1"
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        if (documents := await _standing(client, index, alias, mark)) is not None:
            return Loaded(index, documents, fresh=False)
        await _clear(client, index, alias)
        await _ask(client, "PUT", f"/{index}", {**body, "mappings": {**body["mappings"], "_meta": {"demo": mark}}})
        for lines in _bulks(products):
            await _send(client, index, lines)
        await _ask(client, "POST", f"/{index}/_refresh")
        await _ask(client, "POST", "/_aliases", {"actions": [{"add": {"index": index, "alias": alias}}]})
        return Loaded(index, await _count(client, index), fresh=True)


async def _standing(client: httpx.AsyncClient, index: str, alias: str, mark: str) -> int | None:
    """The documents of the index when it is whole and the one that *mark* means."""
    if list(await _ask(client, "GET", f"/_alias/{alias}", missing={})) != [index] or await _mark(client, index) != mark:
        return None
    return await _count(client, index)


async def _mark(client: httpx.AsyncClient, index: str) -> str | None:
    answer = await _ask(client, "GET", f"/{index}/_mapping", missing={})
    found = answer.get(index, {}).get("mappings", {}).get("_meta", {}).get("demo")
    return found if isinstance(found, str) else None


async def _count(client: httpx.AsyncClient, index: str) -> int:
    return int((await _ask(client, "GET", f"/{index}/_count"))["count"])


async def _clear(client: httpx.AsyncClient, index: str, alias: str) -> None:
    """Make room for the index, deleting only what we made."""
    for taken in await _ask(client, "GET", f"/{index},{alias}", missing={}, ignore_unavailable="true"):
        if await _mark(client, taken) is None:
            raise Conflict(f"This engine has an index {taken} that the demo did not make: use an engine of its own.")
        await _ask(client, "DELETE", f"/{taken}")


# --- bulk ------------------------------------------------------------------------------------------------------------


def _bulks(products: Products) -> Iterator[list[bytes]]:
    lines: list[bytes] = []
    size = 0
    for product_id, source in products:
        line = orjson.dumps({"index": {"_id": product_id}}) + b"\n" + orjson.dumps(source) + b"\n"
        if lines and size + len(line) > BULK_BYTES:
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield lines


async def _send(client: httpx.AsyncClient, index: str, lines: list[bytes]) -> None:
    """Send *lines* until the engine holds them all; what it is too busy for goes again."""
    for attempt in range(PATIENCE):
        response = await _request(client, "POST", f"/{index}/_bulk", content=b"".join(lines))
        if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
            lines = _left_over(_answer(response), lines)
        if not lines:
            return
        await anyio.sleep(0.25 * 2**attempt)
    raise EngineUnavailable("The engine stays too busy to take the shop's products: try again later.")


def _left_over(answer: dict[str, Any], lines: list[bytes]) -> list[bytes]:
    """The lines that the engine was too busy for. Raises `EngineError` for one that it will never take."""
    if not answer["errors"]:
        return []
    results = [item["index"] for item in answer["items"]]
    for result in results:
        if result["status"] >= httpx.codes.BAD_REQUEST and result["status"] != httpx.codes.TOO_MANY_REQUESTS:
            raise EngineError(f"The engine refused product {result['_id']}: {result['error']['reason']}")
    return [line for line, result in zip(lines, results, strict=True) if result["status"] >= httpx.codes.BAD_REQUEST]


# --- requests --------------------------------------------------------------------------------------------------------


async def _ask(
    client: httpx.AsyncClient, method: str, path: str, body: Any = None, *, missing: Any = None, **params: str
) -> Any:
    """The JSON answer; *missing* instead of a 404, when it is given."""
    content = None if body is None else orjson.dumps(body)
    response = await _request(client, method, path, content=content, params=params)
    if response.status_code == httpx.codes.NOT_FOUND and missing is not None:
        return missing
    return _answer(response)


async def _request(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    kind = "application/x-ndjson" if path.endswith("/_bulk") else "application/json"
    try:
        return await client.request(method, path, headers={"content-type": kind}, **options)
    except httpx.TransportError as error:
        why = str(error) or type(error).__name__
        raise EngineUnavailable(f"The engine at {client.base_url} does not answer: {why}.") from error


def _answer(response: httpx.Response) -> Any:
    if response.is_success:
        return orjson.loads(response.content)
    path = response.request.url.path
    raise EngineError(f"The engine answered {response.status_code} to {path}: {response.text[:300]}")
