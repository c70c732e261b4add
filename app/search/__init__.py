"""Search for preview and proof: by meaning, by words, or both, on the live generation or on any other.

A query is embedded with the model of the generation that it is put to, never with the catalogue's present one: two
models may serve side by side. When that model is out of reach, too slow or no longer the same, the words are searched
instead and the answer says `degraded`. A catalogue without a live generation has no hits; that is no error.
"""

from app.search.asking import Ask
from app.search.compare import Comparison, compare
from app.search.find import find

__all__ = ["Ask", "Comparison", "compare", "find"]
