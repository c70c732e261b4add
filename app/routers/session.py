"""A token becomes a cookie: a browser's EventSource sends no header of its own."""

from typing import Annotated

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.auth import sign_in, sign_out

router = APIRouter(prefix="/session", tags=["session"])


class Token(BaseModel):
    """The token, where it is not sent as `Authorization: Bearer`."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=1000, pattern=r"^[\x21-\x7e]+$")


@router.post("", status_code=204)
async def begin(request: Request, body: Annotated[Token | None, Body()] = None) -> Response:
    """Check the token and answer it as a same-site cookie that scripts cannot read. Without tokens: nothing to do."""
    return sign_in(request, body.token if body else None)


@router.delete("", status_code=204)
async def end() -> Response:
    """Forget the cookie."""
    return sign_out()
