"""The shop's indexer on every engine: whole before it is seen, harmless to repeat, careful with what is not its own."""

from uuid import uuid4

import anyio
import httpx
import pytest

from app.demo.catalogue import broken, mapping, products, tolerant
from app.demo.load import Loaded
from app.demo.load import load as load_async
from app.errors import Conflict, EngineError, EngineUnavailable


def load(*arguments):
    return anyio.run(load_async, *arguments)


@pytest.fixture
def alias(engine_url):
    name = f"demo-{uuid4().hex[:8]}"
    yield name
    httpx.delete(f"{engine_url}/{name}_v1,{name}", params={"ignore_unavailable": "true"}, timeout=30)


@pytest.fixture
def kind(engine_url):
    version = httpx.get(engine_url).json().get("version", {}) if httpx.get(engine_url).is_success else {}
    return version.get("distribution", "elasticsearch")


@pytest.mark.parametrize("shape", ["magento", "elasticsuite"])
def test_it_loads_once_reuses_what_is_whole_and_renews_what_is_not(engine_url, alias, kind, shape):
    def filled(mark):
        return load(engine_url, products(60, shape=shape), mapping(shape, kind), mark, alias)

    assert filled("first") == Loaded(f"{alias}_v1", 60, fresh=True)
    assert filled("first") == Loaded(f"{alias}_v1", 60, fresh=False)
    assert filled("second").fresh
    httpx.post(f"{engine_url}/_aliases", json={"actions": [{"remove": {"index": f"{alias}_v1", "alias": alias}}]})
    assert filled("second").fresh


def test_broken_documents_fit_into_a_tolerant_index(engine_url, alias):
    cases = list(broken())

    loaded = load(engine_url, ((case.id, case.source) for case in cases), tolerant(), "broken", alias)

    assert loaded.documents == len(cases)


def test_an_index_that_is_not_its_own_is_left_alone(engine_url, alias):
    httpx.put(f"{engine_url}/{alias}_v1", json={"settings": {"number_of_replicas": 0}}, timeout=30)

    with pytest.raises(Conflict, match="did not make"):
        load(engine_url, products(1), mapping(), "first", alias)
    assert httpx.head(f"{engine_url}/{alias}_v1").is_success


def test_a_document_that_the_engine_refuses_is_named_and_the_alias_stays_away(engine_url, alias):
    wrong = [("7", {"price_0_1": "no price"})]

    with pytest.raises(EngineError, match="refused product 7"):
        load(engine_url, wrong, mapping(), "first", alias)
    assert httpx.get(f"{engine_url}/_alias/{alias}").status_code == 404


def test_an_engine_that_does_not_answer_is_unavailable():
    with pytest.raises(EngineUnavailable, match="does not answer"):
        load("http://127.0.0.1:9", products(1), mapping(), "first", "demo-nowhere")
