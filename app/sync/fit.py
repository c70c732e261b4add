"""What is fit to be embedded and to be indexed: texts before, vectors after."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.errors import EmbedderError
from app.sync.words import Vectors

NO_VECTOR = "no_vector"
"""The code of the error that says: this text, or one of these, cannot have a vector."""


def no_vector(why: str, positions: Sequence[int] = ()) -> EmbedderError:
    """The error for texts that cannot have a vector; *positions* (from 0) where they are known."""
    where = f" (text {', '.join(str(position) for position in positions[:10])} of the batch)" if positions else ""
    return EmbedderError(f"{why}{where}", code=NO_VECTOR)


def refuse_unfit(texts: Sequence[str]) -> None:
    """Raise when a text is blank or no Unicode text: a cosine has no meaning for the vector of nothing."""
    unfit = [position for position, text in enumerate(texts) if not text.strip() or not encodable(text)]
    if unfit:
        raise no_vector("A blank or broken text has no vector.", unfit)


def encodable(text: str) -> bool:
    """Whether *text* is Unicode text without lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The length of each row as a column; NaN or infinite where the row is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def unit(vectors: Vectors, tolerance: float = 0.0) -> tuple[Vectors, Sequence[int]]:
    """*vectors* at unit length, and the positions of those that have none: zero, NaN or infinite.

    Rows whose length is within *tolerance* of 1 are kept as they came, bit by bit.
    """
    norms = lengths(vectors)
    bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] < 1e-12)).tolist()
    near = abs(norms - 1) <= tolerance
    if bad or bool(near.all()):
        return vectors, bad
    return np.divide(vectors, np.where(near, np.float32(1), norms), dtype=np.float32), bad
