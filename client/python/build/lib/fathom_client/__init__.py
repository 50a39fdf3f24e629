"""Client of fathom-server, an on-disk approximate nearest-neighbour vector index service.

    from fathom_client import Client

    with Client("127.0.0.1:7117") as client:
        result = client.search("words", vectors, k=10)
        print(result.ids, result.distances)
"""

from ._aio import AsyncClient
from ._client import Client
from ._wire import VERSION as __version__
from .errors import (
    Cancelled,
    ConnectionLost,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    FathomError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ProtocolError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from .types import ID_NONE, SearchResult, SearchStats, ServerInfo

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "ConnectionLost",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FathomError",
    "ID_NONE",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "ProtocolError",
    "ResourceExhausted",
    "SearchResult",
    "SearchStats",
    "ServerInfo",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "__version__",
]
