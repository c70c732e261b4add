"""Embedders: texts become vectors, by a model on this machine or by an endpoint that speaks OpenAI's protocol."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from app.config import LOOPBACK, EmbedderSettings
from app.errors import EmbedderError, NotSupportedYet
from app.spec import EmbedderSpec
from app.sync.embedders.asking import Ask
from app.sync.embedders.hashing import HashingEmbedder
from app.sync.embedders.local import LocalEmbedder
from app.sync.embedders.openai import OpenAIEmbedder
from app.sync.ports import Embedder

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "text-embedding-3-small"


def open_embedder(spec: EmbedderSpec, settings: EmbedderSettings, *, offline: bool) -> Embedder:
    """The embedder that *spec* names, not loaded or asked yet: `ready` does that.

    *settings* are those of `spec.provider`. Raises `EmbedderError` when its address is missing or not allowed.
    """
    if spec.provider == "local":
        return LocalEmbedder(spec.model, spec.dims)
    if spec.provider == "hashing":
        return HashingEmbedder(spec.dims)
    if spec.provider == "onnx":
        raise NotSupportedYet("ONNX models are not built yet: use the provider local or an endpoint.")
    return OpenAIEmbedder(_ask(spec, settings, offline))


def _ask(spec: EmbedderSpec, settings: EmbedderSettings, offline: bool) -> Ask:
    """Where and how to ask. A key goes to the address it was configured for and to no other."""
    ours = spec.provider == "openai"
    own, model = settings.url or (OPENAI_URL if ours else ""), model_of(spec)
    url, variable = _bare(spec.base_url or own), f"RESHELVE_EMBEDDERS__{spec.provider.upper()}"
    if not url:
        raise _refused("embedder_no_url", f"The embedder {spec.provider} has no address: set {variable}__URL.")
    if not model:
        raise _refused("unknown_model", f"The embedder {spec.provider} needs a model: set recipe.embedder.model.")
    if url not in {_bare(known) for known in (own, *settings.allow_urls)}:
        raise _refused("embedder_not_allowed", f"recipe.embedder.base_url: add it to {variable}__ALLOW_URLS.")
    local = is_loopback(_host(url, variable))
    if offline and not local:
        detail = f"OFFLINE is set and the embedder {spec.provider} is not on this machine: use the provider local."
        raise _refused("offline", detail)
    key = settings.api_key.get_secret_value() if settings.api_key and url == _bare(own) else None
    if key is None and url == OPENAI_URL:
        detail = f"OpenAI answers nobody without a key: set {variable}__API_KEY or OPENAI_API_KEY."
        raise _refused("embedder_no_key", detail)
    return Ask(spec.provider, model, url, spec.dims, key, settings.timeout, local)


def model_of(spec: EmbedderSpec) -> str:
    """The model that *spec* asks an endpoint for; empty where none is named and none goes without saying."""
    return spec.model or (OPENAI_MODEL if spec.provider == "openai" else "")


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine."""
    try:
        return host in LOOPBACK or ip_address(host).is_loopback
    except ValueError:
        return False


def _host(url: str, variable: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
        detail = f"The embedder's address must be like http://host:port/v1, without a password: set {variable}__URL."
        raise _refused("embedder_no_url", detail)
    return parts.hostname


def _bare(url: str) -> str:
    return url.rstrip("/")


def _refused(code: str, detail: str) -> EmbedderError:
    return EmbedderError(detail, code=code)
