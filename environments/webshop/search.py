"""BM25: documents by how well they answer the words of a query (Robertson and Zaragoza 2009, section 3).

The store that is played after searched with Pyserini at its defaults, k1 = 0.9 and b = 0.4 (Trotman, Puurula and
Burgess 2014 find such values to be better than the usual ones). The idf is Lucene's, which is never negative:
ln(1 + (N - n + 0.5) / (n + 0.5)) of a word that n of N documents hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from environments.webshop.products import STOP, WORD, singular

K1, B = 0.9, 0.4
MOST_WORDS = 64
"""Different words of a query; more are not looked at."""


def terms(text: str) -> list[str]:
    """The words of a text as the index knows them: lower case, no stop words, no plural ``s``."""
    return [singular(word) for word in WORD.findall(text.lower()) if word not in STOP]


class Index:
    """The weights of every word in every document, computed once."""

    def __init__(self, documents: Sequence[str]) -> None:
        counts = [Counter(terms(document)) for document in documents]
        lengths = [count.total() for count in counts]
        mean = sum(lengths) / max(1, len(lengths))
        postings: dict[str, list[tuple[int, float]]] = {}
        for number, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            norm = K1 * (1 - B + B * length / mean)
            for term, times in count.items():
                postings.setdefault(term, []).append((number, times / (times + norm)))
        self._size = len(documents)
        self._weights = {term: self._weigh(found) for term, found in postings.items()}

    def _weigh(self, found: list[tuple[int, float]]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        idf = log(1 + (self._size - len(found) + 0.5) / (len(found) + 0.5))
        numbers, saturated = zip(*found, strict=True)
        return np.array(numbers, dtype=np.intp), idf * np.array(saturated)

    def search(self, query: str, most: int) -> list[tuple[int, float]]:
        """Document numbers and scores, best first, of at most ``most`` documents that hold a word of the query.

        A word counts once, however often the query has it. Documents that tie stand in the order they came in.
        """
        scores: NDArray[np.float64] = np.zeros(self._size)
        for term in list(dict.fromkeys(terms(query)))[:MOST_WORDS]:
            numbers, weights = self._weights.get(term, _NOTHING)
            scores[numbers] += weights
        order = np.argsort(-scores, kind="stable")[:most]
        return [(int(number), float(scores[number])) for number in order if scores[number] > 0]


_NOTHING: tuple[NDArray[np.intp], NDArray[Any]] = (np.array([], dtype=np.intp), np.array([]))
