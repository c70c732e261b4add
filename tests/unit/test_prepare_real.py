"""Every product of the real catalogues below `RESHELVE_DATA` becomes a document, or a reject by rule; texts are clean.

Without that variable nothing is collected here: the catalogues are not part of the project.
"""

import gzip
import os
import re
from collections import Counter
from functools import cache
from html.entities import html5
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.spec import RecipeSpec
from app.sync.prepare import Preparer
from app.sync.recipe import resolve, source_shape
from app.sync.words import Batch, Document, Hit, Page, Slice

pytestmark = pytest.mark.catalogues

DATA = os.environ.get("RESHELVE_DATA", "")
__test__ = bool(DATA)
CATALOGUES = {path.name.removesuffix(".ndjson.gz") for path in Path(DATA).glob("*.ndjson.gz")} if DATA else set()
ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31};|#\d{1,7};|#[xX][0-9a-fA-F]{1,6};)")
MARKUP = re.compile(r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?/?>|<!--|\{\{|#html-body|data-pb-style")

every_catalogue = pytest.mark.parametrize("name", sorted(CATALOGUES))
both_shapes = pytest.mark.parametrize("name", sorted(CATALOGUES & {"luma.magento", "luma.elasticsuite"}))
only_luma = pytest.mark.parametrize("name", sorted(CATALOGUES & {"luma.magento"}))
only_phones = pytest.mark.parametrize("name", sorted(CATALOGUES & {"bestbuy_phones.magento"}))
suite_phones = pytest.mark.parametrize("name", sorted(CATALOGUES & {"bestbuy_phones.elasticsuite"}))


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((Path(DATA) / f"{name}.mapping.json").read_bytes())["mappings"]["properties"]
    return found


@cache
def hits(name: str) -> tuple[Hit, ...]:
    with gzip.open(Path(DATA) / f"{name}.ndjson.gz") as lines:
        rows = [orjson.loads(line) for line in lines]
    return tuple(Hit(row["_id"], row["_source"]) for row in rows)


@cache
def prepared(name: str, template: str | None = None) -> Batch:
    preparer = Preparer(resolve(RecipeSpec(template=template), properties(name)))
    return preparer.prepare(Page(Slice(0, 1), hits(name), None, 0))


def leftovers(text: str) -> list[str]:
    entities = [found[0] for found in ENTITY.finditer(text) if found[1][0] == "#" or found[1] in html5]
    return entities + MARKUP.findall(text)


def document(name: str, part: str) -> Document:
    return next(found for found in prepared(name).documents if part.casefold() in str(found.fields["name"]).casefold())


@every_catalogue
def test_every_product_is_a_document_or_left_out_by_rule(name: str) -> None:
    batch = prepared(name)
    assert len(batch.documents) + len(batch.rejects) == batch.read == len(hits(name))
    assert {(reject.by, reject.code) for reject in batch.rejects} <= {("rule", "skeleton")}
    skeletons = {hit.id for hit in hits(name) if not hit.source.get("name")}
    assert {reject.product_id for reject in batch.rejects} == skeletons


@every_catalogue
def test_the_shape_is_recognised(name: str) -> None:
    assert source_shape(properties(name)) == ("elasticsuite" if name.endswith("elasticsuite") else "native")


@every_catalogue
def test_no_markup_and_no_entity_is_left(name: str) -> None:
    for template in (None, "{{ name }}\n{{ attributes }}"):
        for found in prepared(name, template).documents:
            assert not leftovers(found.text), found.id
            assert not any(leftovers(str(value)) for value in found.fields.values()), found.id


@every_catalogue
def test_texts_are_lines_of_words(name: str) -> None:
    for found in prepared(name).documents:
        assert found.text.startswith(str(found.fields["name"])[:50])
        assert all(line and line == " ".join(line.split()) for line in found.text.split("\n"))


@every_catalogue
def test_fields_are_what_they_are_declared(name: str) -> None:
    for found in prepared(name).documents:
        assert isinstance(found.fields["price"], float)
        assert found.fields["price"] >= 0
        assert found.fields["visibility"] in {3, 4}
        assert isinstance(found.fields["is_out_of_stock"], bool)


@every_catalogue
def test_what_a_filtered_read_brings_is_enough(name: str) -> None:
    """Only the patterns of `wanted` are fetched from an engine: the document is the same without all the rest."""
    preparer = Preparer(resolve(RecipeSpec(), properties(name)))
    first = re.compile("|".join(re.escape(one.partition(".")[0]).replace(r"\*", ".*") for one in preparer.wanted))
    some = hits(name)[:200]
    lean = [Hit(hit.id, {key: value for key, value in hit.source.items() if first.fullmatch(key)}) for hit in some]
    assert preparer.prepare(Page(Slice(0, 1), lean, None, 0)) == preparer.prepare(Page(Slice(0, 1), some, None, 0))


@only_luma
def test_glue_of_the_native_index_is_repaired(name: str) -> None:
    texts = "\n".join(found.text for found in prepared(name).documents)
    for glued in ("metabolismBurn", "greatGain", "onlyHeart"):
        assert glued not in texts
    for parted in ("metabolism Burn", "great Gain", "only Heart"):
        assert parted in texts
    assert "LifeLong" in texts
    assert "HeatTech™" in texts


@both_shapes
def test_a_trademark_and_bullets_are_read_in_both_shapes(name: str) -> None:
    pullover = document(name, "mars heattech™ pullover")
    assert "\nAdjustable VELCRO® sleeve cuffs.\nTwo hand pockets." in pullover.text
    assert "-xs-" not in pullover.text
    assert pullover.fields["price"] == 66.0


@both_shapes
def test_a_composite_costs_what_its_cheapest_child_costs(name: str) -> None:
    assert document(name, "mithra warmup pant").fields["price"] == pytest.approx(22.4)


@only_phones
def test_glued_list_items_are_parted_and_brands_are_not(name: str) -> None:
    texts = "\n".join(found.text for found in prepared(name).documents)
    assert "assortmentAndroid" not in texts
    assert "month.Early" not in texts
    words = Counter(re.findall(r"\S+", texts))
    for brand in ("iPhone", "iPod", "BlackBerry", "OtterBox", "iFrogz", "mAh", "myTouch", "PlayBook™"):
        assert words[brand], brand


@suite_phones
def test_list_items_become_lines_and_badges_go(name: str) -> None:
    pocket = document(name, "pantech - pocket 4g")
    assert "Android 2.3 operating system\n4G speed\nBluetooth enabled\n" in pocket.text
    for gone in ("popNew", "ICON CODE", "images.bestbuy", "Learn about"):
        assert gone not in pocket.text
