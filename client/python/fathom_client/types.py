"""What calls return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
import numpy.typing as npt

__all__ = ["ID_NONE", "SearchResult", "SearchStats", "ServerInfo"]

Hits = List[Tuple[int, float]]

#: Pads rows with fewer than k results; their distance is +inf.
ID_NONE: int = 2**64 - 1


@dataclass(frozen=True)
class ServerInfo:
    """What the server said of itself in its hello."""

    server: str
    protocol: int
    max_message_bytes: int
    methods: Tuple[str, ...]
    indexes: Tuple[str, ...]


@dataclass(frozen=True)
class SearchStats:
    """What a search took. Of a batch this is the sum, and `queries` has one for each vector."""

    navigator: str = ""
    stop_reason: str = ""
    io_engine: str = ""
    hops: int = 0
    rounds: int = 0
    reads: int = 0
    list_reads: int = 0
    code_reads: int = 0
    bytes: int = 0
    resident_lists: int = 0
    code_distances: int = 0
    full_distances: int = 0
    #: Of the vectors, those whose results were ranked by full vectors where 8 bits left them in doubt.
    reranked: int = 0
    #: Of the vectors, those whose search list was widened, since they are unlike what target recall was measured on.
    widened: int = 0
    queue_us: float = 0
    device_us: float = 0
    compute_us: float = 0
    total_us: float = 0
    queries: Tuple["SearchStats", ...] = ()
    #: What a newer server says beside these.
    extra: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchResult:
    """Results, nearest first. For a single vector the arrays have the shape (k,), for a batch (n, k).

    Where fewer than k rows were found, the rest of the row is `ID_NONE` with distance +inf; `valid`
    masks it.
    """

    ids: npt.NDArray[np.uint64]
    distances: npt.NDArray[np.float32]
    #: Of the index that answered; one result is always of one generation.
    generation: int
    #: False: the server could not look at everything, the results may lack some.
    complete: bool
    #: With `explain=True`.
    stats: Optional[SearchStats] = None

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Which entries are results."""
        return np.not_equal(self.ids, np.uint64(ID_NONE))

    def to_list(self) -> Union[Hits, List[Hits]]:
        """`(id, distance)` pairs as Python numbers, nearest first and without padding; for a batch a list of
        them for each vector."""
        if self.ids.ndim > 1:
            return [_hits(*row) for row in zip(self.ids, self.distances, self.valid)]
        return _hits(self.ids, self.distances, self.valid)


def _hits(ids: npt.NDArray[np.uint64], distances: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> Hits:
    return list(zip(ids[valid].tolist(), distances[valid].tolist()))
