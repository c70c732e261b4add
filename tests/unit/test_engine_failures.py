"""What an engine's refusals are taken for."""

import pytest

from app import errors
from app.config import EngineSettings
from app.sync.engines.failures import Failure, failure, never_fits, problem
from app.sync.engines.shapes import flat, seconds
from app.sync.engines.wire import Address, one_name

LARGER = (
    "rejected execution of coordinating operation [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, "
    "coordinating_operation_bytes=1500000, max_coordinating_and_primary_bytes=1048576]"
)
FULL = LARGER.replace("operation_bytes=1500000", "operation_bytes=500000")


def told(status: int, kind: str, reason: str = "why", **error: object) -> errors.Problem:
    body = {"error": {"type": kind, "reason": reason, **error}, "status": status}
    return problem(failure(status, body), "Elasticsearch at http://e:9200", "do it")


@pytest.mark.parametrize(
    ("status", "kind", "reason", "wanted"),
    [
        (404, "index_not_found_exception", "", errors.IndexMissing),
        (404, "aliases_not_found_exception", "", errors.SwitchSpent),
        (404, "search_context_missing_exception", "", errors.SourceGone),
        (400, "resource_already_exists_exception", "", errors.Conflict),
        (429, "es_rejected_execution_exception", FULL, errors.EngineBusy),
        (429, "rejected_execution_exception", LARGER, errors.TooLargeForEngine),
        (429, "circuit_breaking_exception", "", errors.EngineBusy),
        (413, "", "", errors.TooLargeForEngine),
        (429, "cluster_block_exception", "disk usage exceeded flood-stage watermark", errors.DiskFull),
        (403, "cluster_block_exception", "[FORBIDDEN/8/index write (api)]", errors.Blocked),
        (503, "cluster_block_exception", "[SERVICE_UNAVAILABLE/2/no master]", errors.EngineUnavailable),
        (503, "", "", errors.EngineUnavailable),
        (504, "", "", errors.EngineUnavailable),
        (400, "illegal_argument_exception", "", errors.EngineError),
        (500, "illegal_state_exception", "", errors.EngineError),
    ],
)
def test_the_type_decides_and_the_status_where_it_says_nothing(
    status: int, kind: str, reason: str, wanted: type[errors.Problem]
) -> None:
    assert type(told(status, kind, reason)) is wanted


def test_the_root_cause_is_looked_at() -> None:
    roots = [{"type": "search_context_missing_exception", "reason": "No search context found for id [8]"}]
    gone = told(404, "search_phase_execution_exception", "all shards failed", root_cause=roots)
    assert isinstance(gone, errors.SourceGone)
    assert "No search context" in gone.detail


def test_missing_credentials_name_the_settings_and_missing_rights_the_engines_own_words() -> None:
    nobody = told(401, "security_exception", "missing authentication credentials for REST request [/]")
    assert (nobody.code, nobody.transient) == ("engine_unauthorized", False)
    assert "API_KEY" in nobody.detail
    reason = "action [indices:admin/create] is unauthorized for user [shop], this action is granted by [create_index]"
    lacking = told(403, "security_exception", reason)
    assert lacking.code == "engine_forbidden"
    assert "create_index" in lacking.detail
    assert "http://e:9200" in lacking.detail


def test_what_a_proxy_says_is_passed_on() -> None:
    assert failure(502, {"error": "<html>Bad gateway"}) == Failure(502, "", "<html>Bad gateway")
    assert isinstance(problem(failure(502, {}), "e", "do it"), errors.EngineUnavailable)


def test_an_operation_over_the_limit_never_fits() -> None:
    assert never_fits(LARGER)
    assert not never_fits(FULL)
    assert never_fits(LARGER.replace("max_coordinating_and_primary_bytes", "max_coordinating_bytes"))
    assert not never_fits("queue full")
    shard = "shard_total_bytes=90, shard_operation_bytes=50, shard_max_coordinating_and_primary_bytes=10"
    assert not never_fits(f"rejected execution of coordinating operation [shard_detail=[a][0], {shard}]")


def test_settings_are_named_in_full_however_they_are_written() -> None:
    wanted = {"index.codec": "best_compression", "index.analysis.analyzer.a.filter": ["lowercase"]}
    nested = {"index": {"codec": "best_compression", "analysis": {"analyzer": {"a": {"filter": ["lowercase"]}}}}}
    assert flat(nested) == flat(nested["index"]) == flat(wanted) == wanted


@pytest.mark.parametrize(("text", "found"), [("1s", 1), ("500ms", 0.5), ("2m", 120), ("-1", -1), ("1d", 86400)])
def test_durations_are_read(text: str, found: float) -> None:
    assert seconds(text) == found


def test_an_address_shows_no_credentials() -> None:
    address = Address.of(EngineSettings(url="https://user:p%40ss@search.example/es/"))
    assert address.url == "https://search.example:443/es"
    assert address.headers == {"authorization": "Basic dXNlcjpwQHNz"}
    assert "dXNlcjpwQHNz" not in repr(address)
    key = Address.of(EngineSettings(url="http://e:9200", api_key="abc", username="u", password="p"))
    assert key.headers == {"authorization": "ApiKey abc"}
    with pytest.raises(errors.EngineError):
        Address.of(EngineSettings(url="search.example:9200"))


def test_names_are_quoted_and_patterns_refused() -> None:
    assert one_name("a.b~c") == "a.b~c"
    with pytest.raises(errors.EngineError):
        one_name("a*")
