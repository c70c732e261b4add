"""Judgements as TREC writes them: two files that belong together, and everything that may be wrong with them."""

import os
from pathlib import Path

import pytest

from app.errors import Invalid
from app.sync.judgements import MOST, Judgements, read

QRELS = "1\t0\tp1\t2\n1 0 p2 0\n\n2\t0\tp1\t0.5\n3 0 p9 1\n"
QUERIES = "1\tlaptop\n2\t bluetooth\tspeaker \n\n3\t \n4\tnobody judged\n"
FOLDER = os.environ.get("RESHELVE_DATA")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Judgements as they should be, and a file that is none of our business beside the folder."""
    inside = tmp_path / "files"
    inside.mkdir()
    (inside / "shop.qrels.tsv").write_text(QRELS)
    (inside / "shop.queries.tsv").write_text(QUERIES)
    (tmp_path / "outside.qrels.tsv").write_text(QRELS)
    (tmp_path / "outside.queries.tsv").write_text(QUERIES)
    return inside


def refused(folder: Path | None, name: str) -> str:
    with pytest.raises(Invalid) as caught:
        read(folder, name)
    assert caught.value.code == "qrels"
    assert caught.value.detail.startswith("policy.qrels: ")
    return caught.value.detail


def test_queries_with_words_that_were_judged_are_taken(folder: Path) -> None:
    found = read(folder, "shop.qrels.tsv")
    assert found == Judgements(
        {"1": "laptop", "2": "bluetooth\tspeaker"}, {"1": {"p1": 2.0, "p2": 0.0}, "2": {"p1": 0.5}}
    )


def test_files_below_a_folder_with_a_mark_and_of_other_line_ends_are_read(folder: Path) -> None:
    (folder / "qrels").mkdir()
    (folder / "qrels" / "qrels.txt").write_bytes(b"\xef\xbb\xbf1 0 p1 1\r\n")
    (folder / "qrels" / "queries.txt").write_bytes("\ufeff1\tcafé\r\n".encode())
    assert read(folder, "qrels/qrels.txt") == Judgements({"1": "café"}, {"1": {"p1": 1.0}})


@pytest.mark.parametrize("line", ["1 0 p1", "1 0 p1 much", "1 0 two words 1", "1 0 p1 nan", "1 0 p1 inf", "1"])
def test_a_line_that_is_no_judgement_is_named(folder: Path, line: str) -> None:
    (folder / "bad.qrels.tsv").write_text(f"1 0 p1 1\n{line}\n")
    (folder / "bad.queries.tsv").write_text(QUERIES)
    assert "line 2 is not: query, iteration, product, gain" in refused(folder, "bad.qrels.tsv")


@pytest.mark.parametrize(
    ("qrels", "queries"), [("", QUERIES), (QRELS, ""), (QRELS, "9\tunknown\n"), (QRELS, "1 no tab")]
)
def test_files_that_have_no_query_in_common_are_refused(folder: Path, qrels: str, queries: str) -> None:
    (folder / "bad.qrels.tsv").write_text(qrels)
    (folder / "bad.queries.tsv").write_text(queries)
    assert "no query that is judged has words" in refused(folder, "bad.qrels.tsv")


def test_what_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "lonely.qrels.tsv").write_text(QRELS)
    (folder / "latin.qrels.tsv").write_bytes(b"1 0 caf\xe9 1\n")
    (folder / "folder.qrels").mkdir()
    assert "missing.qrels.tsv' cannot be read" in refused(folder, "missing.qrels.tsv")
    assert "lonely.queries.tsv' cannot be read" in refused(folder, "lonely.qrels.tsv")
    assert "cannot be read (UnicodeDecodeError)" in refused(folder, "latin.qrels.tsv")
    assert "cannot be read" in refused(folder, "folder.qrels")
    assert "cannot be read" in refused(folder, "null\0.qrels.tsv")
    assert "cannot be read" in refused(folder, "qrels" + "x" * 300)


def test_a_file_that_is_too_large_is_refused(folder: Path) -> None:
    with (folder / "large.qrels.tsv").open("wb") as file:
        file.truncate(MOST + 1)
    assert f"over {MOST} bytes" in refused(folder, "large.qrels.tsv")


@pytest.mark.parametrize("name", ["../outside.qrels.tsv", "/outside.qrels.tsv", "link.qrels.tsv", "a/../../x.qrels"])
def test_nothing_outside_of_the_folder_is_read(folder: Path, name: str) -> None:
    (folder / "link.qrels.tsv").symlink_to(folder.parent / "outside.qrels.tsv")
    named = str(folder.parent) + name if name.startswith("/") else name
    assert "is not below FILES_DIR" in refused(folder, named)


def test_queries_outside_of_the_folder_are_not_read(folder: Path) -> None:
    (folder / "link.qrels.tsv").write_text(QRELS)
    (folder / "link.queries.tsv").symlink_to(folder.parent / "outside.queries.tsv")
    assert "link.queries.tsv is not below FILES_DIR" in refused(folder, "link.qrels.tsv")


def test_without_a_folder_or_the_word_in_its_name_nothing_is_read(folder: Path) -> None:
    assert "FILES_DIR is not set" in refused(None, "shop.qrels.tsv")
    assert "must have qrels in it" in refused(folder, "shop.queries.tsv")
    assert "must have qrels in it" in refused(folder, "qrels/shop.tsv")


@pytest.mark.catalogues
@pytest.mark.parametrize("path", sorted(Path(FOLDER).glob("*.qrels.tsv")) if FOLDER else [], ids=lambda path: path.name)
def test_real_judgements_are_read(path: Path) -> None:
    found = read(path.parent, path.name)
    assert found.queries["1"] == "laptop"
    assert found.queries.keys() == found.gains.keys()
    assert len(found.queries) > 100
