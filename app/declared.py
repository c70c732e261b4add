"""Catalogues that a file declares: `CATALOGUES_FILE`, YAML or JSON, name to declaration, applied at every start.

    shop:
      source: {kind: index, index: magento2_product_1}
      target: {alias: rag-catalog-live}

All of them are declared in one transaction, or none. A catalogue that the file no longer names stays as it is.
"""

from pathlib import Path
from typing import Any

import structlog
import yaml
from anyio import to_thread
from pydantic import ValidationError

from app import catalogues
from app.config import Settings
from app.db import Database
from app.errors import Invalid
from app.spec import CatalogueSpec

LARGEST = 5_000_000

log = structlog.get_logger("reshelve.declared")


async def declare(db: Database, settings: Settings) -> None:
    """Apply the file, if there is one. Raises `Invalid` with every finding, or `Conflict`."""
    if settings.catalogues_file is None:
        return
    specs = await to_thread.run_sync(read, settings.catalogues_file)
    async with db.writing() as session:
        for name, spec in specs.items():
            _, is_new = await catalogues.declare(session, name, spec, settings)
            log.info("declared", catalogue=name, new=is_new)


def read(file: Path) -> dict[str, CatalogueSpec]:
    """The declarations in *file*; a list `catalogues` of objects with a `name` is understood too."""
    declared = _by_name(_load(file), file)
    specs, wrong = {}, []
    for name, spec in declared.items():
        try:
            specs[name] = CatalogueSpec.model_validate(spec)
        except ValidationError as error:
            for one in error.errors(include_input=False, include_url=False):
                where = ".".join((name, *map(str, one["loc"])))
                wrong.append({"where": where, "why": one["msg"].removeprefix("Value error, ")})
    if wrong:
        listed = "; ".join(f"{one['where']}: {one['why']}" for one in wrong[:10])
        raise Invalid(f"{file} declares what cannot be: {listed}", errors=wrong)
    return specs


def _load(file: Path) -> Any:
    try:
        if file.stat().st_size > LARGEST:
            raise Invalid(f"RESHELVE_CATALOGUES_FILE: {file} is larger than {LARGEST:,} bytes.", code="catalogues_file")
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = f"RESHELVE_CATALOGUES_FILE: {file} cannot be read ({type(error).__name__})."
        raise Invalid(why, code="catalogues_file") from error
    except yaml.YAMLError as error:
        at = getattr(error, "problem_mark", None)
        line = f" (line {at.line + 1})" if at else ""
        why = f"RESHELVE_CATALOGUES_FILE: {file} is no valid YAML or JSON{line}."
        raise Invalid(why, code="catalogues_file") from error


def _by_name(value: Any, file: Path) -> dict[str, Any]:
    inner = value.get("catalogues", value) if isinstance(value, dict) else value
    if isinstance(inner, list) and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in inner):
        return {one["name"]: {key: part for key, part in one.items() if key != "name"} for one in inner}
    if isinstance(inner, dict):
        return {str(name): spec for name, spec in inner.items()}
    why = f"RESHELVE_CATALOGUES_FILE: {file} must map names to declarations."
    raise Invalid(why, code="catalogues_file")
