"""The page at `/` and its assets: static, open to everybody; what it shows it asks of the API."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

WEB = Path(__file__).resolve().parent.parent / "web"
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
}
"""What is served, and as what; the machine's own table of types may be any."""


def assets() -> dict[str, Path]:
    """The path of each file of the page. Only these are served: there is no way out of the folder."""
    found = {f"/{file.relative_to(WEB).as_posix()}": file for file in sorted(WEB.rglob("*")) if file.suffix in TYPES}
    return {"/": WEB / "index.html", **found} if "/index.html" in found else found


def router(files: Mapping[str, Path]) -> APIRouter:
    """One route for each file."""
    made = APIRouter(include_in_schema=False)
    for path, file in files.items():
        made.add_api_route(path, _sender(file), methods=["GET", "HEAD"])
    return made


def _sender(file: Path) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(file, media_type=TYPES[file.suffix], headers={"Cache-Control": "no-cache"})

    return send
