"""The documentation and the program name the same settings, routes and codes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from pydantic import AliasChoices, BaseModel

from app import backlog, errors, events, telemetry
from app.config import AuthSettings, EmbedderSettings, EngineSettings, Settings
from app.main import create_app
from app.models import Event
from app.notices import Notice
from app.spec import CatalogueSpec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

NESTED = {"engines": EngineSettings, "embedders": EmbedderSettings}
TOOLS = {"RESHELVE_SECRETS_DIR", "RESHELVE_URL", "RESHELVE_TOKEN", "FORWARDED_ALLOW_IPS", "NO_COLOR"}
"""Variables that are no settings of the service."""


def first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def section(file: str, heading: str) -> str:
    text = (DOCS / file).read_text()
    level = heading.split(" ")[0]
    return re.split(rf"^#{{1,{len(level)}}} ", text.split(f"\n{heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


# --- settings --------------------------------------------------------------------------------------------------------


def variables() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        if name in NESTED:
            yield from (f"RESHELVE_{name}__<NAME>__{inner}".upper() for inner in NESTED[name].model_fields)
        elif name == "auth":
            yield from (f"RESHELVE_AUTH__{inner}".upper() for inner in AuthSettings.model_fields)
        elif isinstance(field.validation_alias, AliasChoices):
            yield str(field.validation_alias.choices[0])
        else:
            yield f"RESHELVE_{name.upper()}"


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    text = (DOCS / "configuration.md").read_text().split("## A catalogue")[0]
    assert first_column(text) == {*variables(), *TOOLS}


def test_documented_defaults_are_the_defaults() -> None:
    text = (DOCS / "configuration.md").read_text()
    told = dict(re.findall(r"^\| `RESHELVE_([A-Z_]+)` \| `?([^|`]*?)`? \|", text, re.MULTILINE))
    for name, field in Settings.model_fields.items():
        if (default := told.get(name.upper())) is not None and name not in {"database_url"}:
            assert default == shown(field.get_default(call_default_factory=False)), name


def shown(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}".removesuffix(".0")


def test_every_part_of_a_catalogue_is_documented() -> None:
    there = first_column(section("configuration.md", "## A catalogue"))
    for name, model in {"target": "target", "recipe": "recipe"}.items():
        part: type[BaseModel] = CatalogueSpec.model_fields[model].annotation  # type: ignore[assignment]
        for key in part.model_fields:
            found = {known for known in there if known == f"{name}.{key}" or known.startswith(f"{name}.{key}.")}
            assert found, f"{name}.{key}"
    known = {"tenant", "source", *(f"{one}.{key}" for one in ("target", "recipe", "policy") for key in keys_of(one))}
    assert {".".join(key.split(".")[:2]) for key in there} <= known


def keys_of(part: str) -> set[str]:
    model: Any = CatalogueSpec.model_fields[part].annotation
    return set(model.model_fields)


# --- routes ----------------------------------------------------------------------------------------------------------


def test_every_route_is_documented_and_every_documented_one_exists() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    built = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert first_column((DOCS / "api.md").read_text()) == {*built, "POST /sync"}


def test_the_addresses_in_all_documents_exist() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    shapes = [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) for path in paths]
    for file in (ROOT / "README.md", ROOT / "deploy" / "README.md", *DOCS.rglob("*.md")):
        for address in re.findall(r"/api/v1/[\w{}/.$-]+[\w}]", file.read_text()):
            known = address == "/api/v1/openapi.json" or any(re.fullmatch(shape, address) for shape in shapes)
            assert known, f"{file.name}: {address}"


# --- codes -----------------------------------------------------------------------------------------------------------

RUN_FILES = ("aliases", "admission", "connections", "leases", "ledger", "settling", "switches", "worker", "generations")
CODE = re.compile(r'code="(\w+)"|_finding\("(\w+)"|_refused\("(\w+)"|"code": "(\w+)"')
NOT_OF_RUNS = {"template", "fields", "generation_state", "no_vector", "internal"}
"""Codes of findings about a form, of states that no run meets, and the one that stands for a bug."""


def codes() -> set[str]:
    """Codes that may end a run or refuse its order or a rollback."""
    files = [*(ROOT / "app" / "sync").rglob("*.py"), *(ROOT / "app" / f"{name}.py" for name in RUN_FILES)]
    found = {next(filter(None, match.groups())) for file in files for match in CODE.finditer(file.read_text())}
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Problem)]
    of_runs = (errors.EngineError, errors.EmbedderError, errors.SourceGone, errors.SourceUnresolved, errors.RunFailed)
    return found | {each.code for each in classes if issubclass(each, of_runs)}


def test_every_code_that_ends_a_run_is_explained() -> None:
    explained = first_column((DOCS / "operations.md").read_text())
    assert codes() - NOT_OF_RUNS - explained == set()


def test_every_code_that_is_explained_exists() -> None:
    program = "\n".join(file.read_text() for file in (ROOT / "app").rglob("*.py"))
    tables = [section("operations.md", "## What went wrong, and what to do"), section("operations.md", "## Roll back")]
    for code in {code for table in tables for code in first_column(table)}:
        assert f'"{code}"' in program, code


def test_every_code_of_events_is_one_of_the_program() -> None:
    program = "\n".join(file.read_text() for file in (ROOT / "app").rglob("*.py"))
    for code in first_column(section("events.md", "## Failures")):
        assert f'"{code}"' in program, code


def test_the_figures_of_events_are_those_of_the_program() -> None:
    assert first_column(section("events.md", "## What is measured")) == {*backlog.FIGURES}


def test_the_fields_of_an_event_are_those_of_the_program() -> None:
    assert first_column(section("events.md", "## What an event is")) == {*Notice.model_fields}


def test_what_is_shown_of_an_event_is_documented() -> None:
    named = set(re.findall(r"\b[a-z_]+\b", " ".join(re.findall(r"`([^`]+)`", section("api.md", "## An event")))))
    assert {*events.view(Event(seq=1, product_id="p", received_at=0, due_at=0))} <= named


def test_every_check_of_a_verdict_is_explained() -> None:
    assert first_column(section("operations.md", "## The verdict")) == checks()


def checks() -> set[str]:
    """Names that the proofs give to their checks, and the pipeline to those of a run in which nothing differed."""
    proofs = "\n".join(file.read_text() for file in (ROOT / "app" / "sync").glob("*.py"))
    listed = re.findall(r'(?<!setdefault)\("(\w+)", \1\)', proofs)  # figures by the name of their function
    return {*re.findall(r'\b(?:proof\.check|Check)\(\s*"(\w+)"', proofs), *listed}


def test_every_figure_that_is_named_exists() -> None:
    text = "\n".join((DOCS / file).read_text() for file in ("operations.md", "events.md"))
    named = set(re.findall(r"`(reshelve_\w+)`", text))
    metrics = [each for each in vars(telemetry).values() if isinstance(each, MetricWrapperBase)]
    there = {family.name for metric in metrics for family in metric.describe()}
    assert {name.removesuffix("_total") for name in named} <= there


# --- links and examples ----------------------------------------------------------------------------------------------


def test_every_link_leads_somewhere() -> None:
    for file in (ROOT / "README.md", ROOT / "deploy" / "README.md", *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", file.read_text()):
            assert target.startswith("http") or (file.parent / target).exists(), f"{file.name}: {target}"


def test_every_catalogue_in_the_documents_can_be_declared() -> None:
    found = 0
    for file in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for block in re.findall(r"```json\n(.*?)```", file.read_text(), re.DOTALL):
            CatalogueSpec.model_validate(json.loads(block))
            found += 1
    assert found >= 2
