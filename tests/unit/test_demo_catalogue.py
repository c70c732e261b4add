"""The demo catalogue: the same everywhere, in the shapes that shops have, damaged in the shares it says."""

import hashlib
import itertools
import tracemalloc
from collections import Counter

import orjson
import pytest

from app.demo import goods as words
from app.demo.catalogue import broken, mapping, products, tolerant
from app.demo.goods import goods
from app.demo.shop import the_shop
from app.spec import RecipeSpec
from app.sync.prepare import Preparer
from app.sync.recipe import resolve
from app.sync.words import Hit, Page, Slice

DIGESTS = {
    ("magento", False): "55000f83db4194c8",
    ("magento", True): "b920c04c1501ca60",
    ("elasticsuite", False): "50a5577a03811ffc",
    ("elasticsuite", True): "96346751dc36f121",
}


def digest(shape, long):
    sha = hashlib.sha256()
    for product_id, source in products(500, seed=7, shape=shape, long=long):
        sha.update(product_id.encode() + orjson.dumps(source))
    return sha.hexdigest()[:16]


@pytest.mark.parametrize(("shape", "long"), DIGESTS)
def test_the_same_seed_makes_the_same_bytes_on_every_machine(shape, long):
    assert digest(shape, long) == DIGESTS[shape, long]


def test_the_first_of_many_are_the_same_as_few_and_another_seed_makes_others():
    few = list(products(50))

    assert list(itertools.islice(products(1_000), 50)) == few
    assert [source for _, source in products(50, seed=2)] != [source for _, source in few]


def test_ids_and_names_are_distinct_also_beyond_all_combinations():
    made = [(good.entity, good.name.lower(), good.sku) for good in goods(100_000)]

    assert [len(set(column)) for column in zip(*made, strict=True)] == [100_000] * 3
    assert made[-1][1].endswith(" mk 2")


def test_it_is_a_stream():
    list(products(10))
    tracemalloc.start()
    try:
        for _ in products(5_000):
            pass
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_shares_are_near_what_the_module_says():
    made = list(goods(10_000))
    forms = Counter(good.form for good in made)

    for form, share in words.FORMS:
        assert forms[form] == pytest.approx(share * 10, rel=0.25), form
    found = {
        words.SKELETONS: sum(good.skeleton for good in made),
        words.DISABLED: sum(good.status == 2 for good in made),
        words.SOLD_OUT: sum(good.sold_out for good in made),
        words.CATALOGUE_ONLY: sum(good.visibility == 2 for good in made),
    }
    for share, number in found.items():
        assert number == pytest.approx(share * 10, rel=0.3)
    assert sum(good.visibility == 3 for good in made) == pytest.approx(words.SEARCH_ONLY * 10, rel=0.3)


def test_every_kind_material_trait_and_use_is_sold():
    made = list(goods(20_000))

    assert len({good.kind.noun for good in made}) == len(the_shop().kinds) == 32
    assert len({(good.kind.noun, good.material, good.use) for good in made}) == 32 * 6 * 4


@pytest.mark.parametrize(("long", "low", "high"), [(False, 380, 440), (True, 1_200, 1_320)])
def test_descriptions_have_the_length_that_benchmarks_count_on(long, low, high):
    texts = [source["description"] for _, source in products(3_000, long=long) if _is_text(source)]

    assert low < sum(map(len, texts)) / len(texts) < high
    assert min(map(len, texts)) >= 200


def _is_text(source):
    return isinstance(source.get("description"), str)


# --- Magento's shape -------------------------------------------------------------------------------------------------


def documents(shape, count=3_000):
    return [source for _, source in products(count, shape=shape)]


def test_magentos_documents_are_flat_with_lower_cased_names_and_children_below():
    several = next(source for source in documents("magento") if "size" in source and "name" in source)
    parent, *children = several["name"].split("\n")

    assert several["name"] == several["name"].lower()
    assert children
    assert all(child.startswith(f"{parent}-") for child in children)
    assert several["price_0_1"].split(".")[1].isdigit()
    assert {f"price_{group}_1" for group in range(4)} <= set(several)
    for number in several["category_ids"]:
        assert {f"name_category_{number}", f"position_category_{number}"} <= set(several)
    assert several["is_out_of_stock"] in (0, 1)


def test_magentos_values_are_scalars_or_lists_from_one_product_to_the_next():
    kinds = {field: set() for field in ("color", "color_value", "description")}
    for source in documents("magento"):
        for field, seen in kinds.items():
            seen.add(type(source.get(field)))

    assert kinds["color"] == {int, list, type(None)}
    assert kinds["color_value"] == {str, list, type(None)}
    assert kinds["description"] == {str, list, type(None)}


def test_a_skeleton_has_no_name_no_status_and_is_out_of_stock():
    skeletons = [source for source in documents("magento") if "name" not in source]

    assert skeletons
    assert all("status" not in source and source["is_out_of_stock"] == 1 for source in skeletons)


@pytest.mark.parametrize(
    "damage",
    ["#html-body [data-pb-style=", "{{widget type=", "{{media url=", "&bull;", "&amp;trade;", "onclick=", "<!--"],
)
def test_magentos_texts_have_every_damage(damage):
    assert any(damage in source["description"] for source in documents("magento") if _is_text(source))


def test_tags_that_magento_stripped_leave_glued_words():
    texts = [source["description"] for source in documents("magento") if _is_text(source)]

    assert sum("</" not in text and ".The " in text for text in texts) > len(texts) * 0.05


# --- ElasticSuite's shape --------------------------------------------------------------------------------------------


def test_elasticsuites_documents_have_lists_html_and_nested_prices():
    named = [source for source in documents("elasticsuite") if "name" in source]

    assert all(isinstance(source["name"], list) and isinstance(source["entity_id"], str) for source in named)
    assert any("<li>" in source.get("description", [""])[0] for source in named)
    assert any('data-content-type="row"' in source.get("description", [""])[0] for source in named)
    assert {price["customer_group_id"] for price in named[0]["price"]} == {0, 1, 2, 3}
    assert {type(source["sku"]) for source in named} == {str, list}
    assert all(source["option_text_color"] and source["stock"]["qty"] >= 0 for source in named)


def test_a_sold_out_product_is_not_in_stock_in_either_shape():
    pairs = zip(documents("magento"), documents("elasticsuite"), strict=True)

    assert all(bool(native["is_out_of_stock"]) != suite["stock"]["is_in_stock"] for native, suite in pairs)


# --- mappings and broken documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["magento", "elasticsuite"])
def test_only_opensearch_gets_analysis(shape):
    assert "analysis" not in mapping(shape, "elasticsearch")["settings"]
    assert "analysis" in mapping(shape, "opensearch")["settings"]
    assert "name" in mapping(shape)["mappings"]["properties"]


def test_the_two_shapes_tell_themselves_apart_by_their_mappings():
    assert "price" not in mapping("magento")["mappings"]["properties"]
    assert mapping("elasticsuite")["mappings"]["properties"]["price"]["type"] == "nested"


def test_every_broken_document_is_json_has_its_own_id_and_says_what_becomes_of_it():
    cases = list(broken())

    assert len({case.id for case in cases}) == len({case.name for case in cases}) == len(cases)
    assert {case.outcome for case in cases} == {"reject", "excluded", "kept"}
    assert all(case.why and orjson.dumps(case.source) for case in cases)
    assert max(len(str(case.source.get("description"))) for case in cases) == 10_000_000
    assert tolerant()["mappings"]["dynamic"] is False


def test_the_default_recipe_makes_of_every_broken_document_what_it_says():
    preparer = Preparer(resolve(RecipeSpec(), mapping("magento")["mappings"]["properties"]))
    found = {}
    for case in broken():
        batch = preparer.prepare(Page(Slice(0, 1), [Hit(case.id, case.source)], None, 0))
        by = [reject.by for reject in batch.rejects]
        found[case.name] = {"rule": "excluded", "data": "reject"}[by[0]] if by else "kept"

    assert found == {case.name: case.outcome for case in broken()}
