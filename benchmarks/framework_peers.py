"""LlamaIndex and LangChain as their users use them, in an environment of their own (`frameworks.requirements.txt`).

    python -m benchmarks.framework_peers {llamaindex,langchain} --engine URL --source INDEX --target INDEX

Both use their own, published Elasticsearch stores, with a client that is given to them ready made: left to make one
they ask `GET /` first, which small test servers do not answer. In their favour: they write into an index that is there
already (few fields, `dynamic: false`, refresh off), ask the source for the fields that they need, embed 500 texts at a
time, and skip products that the service leaves out too. LlamaIndex keeps its memory (docstore, strategy upserts) in
files, LangChain (record manager, cleanup full) in SQLite; each sync opens that memory anew, as a nightly script does.

Three syncs of the same source, after one of few products that is not counted: the first; a second with nothing
changed; a third after documents were deleted in the target behind its back. One JSON document says how long they took,
what the framework answered, and what is there.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import wordllama
from elasticsearch import AsyncElasticsearch, Elasticsearch
from elasticsearch.helpers import bulk, scan

BATCH = 500
LOST = 10
WARM = 500
DIMS = 256
WANTED = ["sku", "name", "description", "price_0_1", "status", "visibility"]

Answer = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What a framework is given."""

    url: str
    source: str
    target: str
    model: wordllama.WordLlama
    folder: Path
    most: int | None = None

    def vectors(self, texts: list[str]) -> list[list[float]]:
        """The embedder that all contestants share."""
        return [list(map(float, vector)) for vector in self.model.embed(texts, norm=True)]

    def products(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Id, text and metadata of every product that belongs into the target, or of the first so many."""
        with Elasticsearch(self.url, request_timeout=120) as client:
            hits = scan(client, index=self.source, size=1000, source_includes=WANTED, clear_scroll=not self.most)
            for hit in islice(hits, self.most):
                source = hit["_source"]
                if source.get("name") and not excluded(source):
                    metadata = {"sku": source.get("sku"), "name": source["name"], "price": source.get("price_0_1")}
                    yield hit["_id"], text_of(source), metadata


def excluded(source: dict[str, Any]) -> bool:
    """Disabled, or not visible on its own."""
    return source.get("status") == 2 or source.get("visibility") in (1, 2)


def text_of(source: dict[str, Any]) -> str:
    """Name and description."""
    parts = (source.get("name"), source.get("description"))
    return "\n".join(" ".join(map(str, part)) if isinstance(part, list) else str(part) for part in parts if part)


def llamaindex(setting: Setting) -> Answer:
    """One sync by `IngestionPipeline`."""
    from llama_index.core.embeddings import BaseEmbedding
    from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
    from llama_index.core.schema import Document
    from llama_index.core.storage.docstore import SimpleDocumentStore
    from llama_index.vector_stores.elasticsearch import ElasticsearchStore

    class Local(BaseEmbedding):
        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return setting.vectors(texts)

        def _get_text_embedding(self, text: str) -> list[float]:
            return setting.vectors([text])[0]

        _get_query_embedding = _get_text_embedding

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return setting.vectors([query])[0]

    memory = setting.folder / "docstore.json"
    client = AsyncElasticsearch(setting.url, request_timeout=120)
    pipeline = IngestionPipeline(
        transformations=[Local(embed_batch_size=BATCH)],
        vector_store=ElasticsearchStore(
            setting.target, es_client=client, text_field="text", vector_field="embedding", batch_size=BATCH
        ),
        docstore=SimpleDocumentStore.from_persist_path(str(memory)) if memory.exists() else SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
        disable_cache=True,
    )
    documents = [
        Document(id_=key, text=text, metadata=metadata, excluded_embed_metadata_keys=list(metadata))
        for key, text, metadata in setting.products()
    ]
    nodes = pipeline.run(documents=documents)
    pipeline.docstore.persist(str(memory))
    pipeline.vector_store.close()
    return {"given": len(documents), "nodes_written": len(nodes)}


def langchain(setting: Setting) -> Answer:
    """One sync by `index()`."""
    from langchain_classic.indexes import SQLRecordManager, index
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_elasticsearch import ElasticsearchStore

    class Local(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return setting.vectors(texts)

        def embed_query(self, text: str) -> list[float]:
            return setting.vectors([text])[0]

    with Elasticsearch(setting.url, request_timeout=120) as client:
        store = ElasticsearchStore(
            setting.target, client=client, embedding=Local(), query_field="text", vector_query_field="embedding"
        )
        records = SQLRecordManager("shop", db_url=f"sqlite:///{setting.folder}/records.db")
        records.create_schema()
        documents = (
            Document(page_content=text, metadata={"id": key, **metadata}) for key, text, metadata in setting.products()
        )
        answer = index(
            documents,
            records,
            store,
            cleanup="full",
            source_id_key="id",
            batch_size=BATCH,
            key_encoder="sha256",
            upsert_kwargs={"refresh_indices": False},
        )
    return dict(answer)


FRAMEWORKS: dict[str, Callable[[Setting], Answer]] = {"llamaindex": llamaindex, "langchain": langchain}


class Target:
    """The index that a framework writes."""

    def __init__(self, setting: Setting) -> None:
        self.name = setting.target
        self.client = Elasticsearch(setting.url, request_timeout=1800)

    def make(self) -> None:
        """Empty, with load settings, and the same kind of fields as everybody's."""
        self.client.options(ignore_status=404).indices.delete(index=self.name)
        vector = {"type": "dense_vector", "dims": DIMS, "index": True, "similarity": "cosine"}
        known = {"sku": {"type": "keyword"}, "name": {"type": "text"}, "price": {"type": "double"}}
        fields = {"text": {"type": "text"}, "embedding": vector, "metadata": {"properties": known}}
        settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}
        self.client.indices.create(
            index=self.name, settings=settings, mappings={"dynamic": False, "properties": fields}
        )

    def finish(self) -> None:
        """Refresh and force merge, as everybody ends."""
        self.client.indices.refresh(index=self.name)
        self.client.indices.forcemerge(index=self.name, max_num_segments=1)

    def count(self) -> int:
        """Documents that a search can see."""
        self.client.indices.refresh(index=self.name)
        return int(self.client.count(index=self.name)["count"])

    def lose(self) -> None:
        """Delete some documents behind the framework's back."""
        hits = self.client.search(index=self.name, size=LOST, source=False)["hits"]["hits"]
        gone = [{"_op_type": "delete", "_index": self.name, "_id": hit["_id"]} for hit in hits]
        bulk(self.client, gone, refresh=True)


def main() -> None:
    """Three syncs, one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    asked = parser.parse_args()
    logging.disable(logging.INFO)
    sync = FRAMEWORKS[asked.framework]
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    with TemporaryDirectory() as folder, TemporaryDirectory() as other:
        setting = Setting(asked.engine, asked.source, asked.target, model, Path(folder))
        warm(sync, replace(setting, target=f"{asked.target}-warm", folder=Path(other), most=WARM))
        print(json.dumps(three(sync, setting)))


def warm(sync: Callable[[Setting], Answer], setting: Setting) -> None:
    """Import what is imported late, fill caches, open connections once."""
    target = Target(setting)
    target.make()
    sync(setting)
    target.client.indices.delete(index=target.name)


def three(sync: Callable[[Setting], Answer], setting: Setting) -> dict[str, Any]:
    """First, unchanged, and after a loss."""
    target = Target(setting)
    target.make()
    start = time.perf_counter()
    first = timed(sync, setting)
    target.finish()
    found = {"first": {**first, "done": time.perf_counter() - start, "in_target": target.count()}}
    found["unchanged"] = {**timed(sync, setting), "in_target": target.count()}
    target.lose()
    short = target.count()
    found["after_loss"] = {**timed(sync, setting), "in_target_before": short, "in_target": target.count()}
    target.client.indices.delete(index=target.name)
    return found


def timed(sync: Callable[[Setting], Answer], setting: Setting) -> dict[str, Any]:
    """What one sync answered, and its seconds."""
    start = time.perf_counter()
    answer = sync(setting)
    return {"seconds": time.perf_counter() - start, "answer": answer}


if __name__ == "__main__":
    main()
