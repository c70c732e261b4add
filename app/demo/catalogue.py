"""Catalogues of any size for demonstration, tests and benchmarks, in the shapes that shops really have.

    for product_id, source in products(100_000): ...

A stream: nothing is kept but the product at hand. The same arguments give the same bytes on every machine. Products
that should not be in a target are among them (see the shares in `goods`): skeletons, disabled and catalogue-only ones.
"""

from collections.abc import Iterator
from typing import Any, Literal

from app.demo import elasticsuite, magento
from app.demo.broken import Broken, broken, tolerant
from app.demo.goods import goods

__all__ = ["Broken", "Shape", "broken", "mapping", "products", "tolerant"]

Shape = Literal["magento", "elasticsuite"]

DOCUMENTS = {"magento": magento.document, "elasticsuite": elasticsuite.document}
MAPPINGS = {"magento": magento.mapping, "elasticsuite": elasticsuite.mapping}


def products(
    count: int, seed: int = 1, shape: Shape = "magento", *, long: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """*count* products as `(id, source)`; descriptions of 200 to 600 characters, with *long* about 1,260."""
    document = DOCUMENTS[shape]
    for good in goods(count, seed, long):
        yield str(good.entity), document(good)


def mapping(shape: Shape = "magento", kind: str = "elasticsearch") -> dict[str, Any]:
    """The body that creates the source index. Elasticsearch gets no analysis: its smallest builds lack the filters."""
    return MAPPINGS[shape](kind == "opensearch")
