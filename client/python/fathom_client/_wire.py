"""The protocol without sockets: requests to bytes, bytes to replies. Both clients are shells round this."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from typing import Any, Dict, List, Optional, Tuple, Union

import msgpack  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from ._scan import MessageScanner
from .errors import FathomError, InvalidArgument, ProtocolError, error_from_wire
from .types import SearchResult, SearchStats, ServerInfo

VERSION = "0.1.0"
PROTOCOL_VERSION = 1
DEFAULT_ADDRESS = "127.0.0.1:7117"
BATCH_MAX = 1024
DIM_MAX = 4096
K_MAX = 4096
MAX_REPLY_BYTES = 64 << 20

_REQUEST, _REPLY, _NOTIFICATION = 0, 1, 2

#: dtypes that go over the wire as they are.
_WIRE_DTYPES: Dict[str, str] = {"float32": "f32", "float16": "f16", "int8": "i8", "uint8": "u8"}
_NUMPY_DTYPES: Dict[str, str] = {wire: name for name, wire in _WIRE_DTYPES.items()}


# ---- addresses ----


@dataclass(frozen=True)
class Address:
    text: str
    path: Optional[str]  # of a unix socket; else host and port
    host: str = ""
    port: int = 0


def parse_address(text: str) -> Address:
    """`HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Address(text, text[len("unix:") :])
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+)):(\d{1,5})", text)
    if not match or not 0 < int(match.group(3)) < 65536:
        raise InvalidArgument(f"bad address {text!r}: use HOST:PORT, [IPv6]:PORT or unix:PATH")
    return Address(text, None, match.group(1) or match.group(2), int(match.group(3)))


# ---- vectors ----


@dataclass(frozen=True)
class Vectors:
    data: bytes  # little-endian scalars, row after row
    dtype: str
    n: int
    dim: int
    single: bool  # a one-dimensional array was given


def _checked_cast(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """array as the named type; values that it cannot hold are an error, not wrapped or made infinite."""
    if array.dtype.name == name:
        return array
    target = np.dtype(name)
    if target.kind in "iu":
        limits = np.iinfo(target)
        # Every comparison with NaN is false, so NaN is caught here too.
        fits = (array >= limits.min) & (array <= limits.max) & (np.trunc(array) == array)
        if not np.all(fits):
            raise InvalidArgument(f"vectors hold values that {name} cannot hold exactly")
        return array.astype(target)
    with np.errstate(over="ignore"):
        cast = array.astype(target)
    if np.any(np.isinf(cast) & np.isfinite(array)):
        raise InvalidArgument(f"vectors hold values too large for {name}")
    return cast


def encode_vectors(vectors: npt.ArrayLike, dtype: Optional[str]) -> Vectors:
    """float32, float16, int8 and uint8 are sent as they are; every other real number becomes float32.
    dtype (`f32`, `f16`, `i8`, `u8`) casts instead, with checks."""
    array = np.asarray(vectors)
    if array.dtype.kind not in "fiu":
        raise InvalidArgument(f"vectors are {array.dtype}, not real numbers")
    if array.ndim not in (1, 2):
        raise InvalidArgument(f"vectors have the shape {array.shape}, not (dim,) or (n, dim)")
    if array.size == 0:
        raise InvalidArgument(f"vectors have the shape {array.shape}: there is nothing to search for")
    n, dim = (1, array.shape[0]) if array.ndim == 1 else array.shape
    if dim > DIM_MAX:
        raise InvalidArgument(f"vectors have {dim} dimensions; at most {DIM_MAX} are supported")
    if n > BATCH_MAX:
        raise InvalidArgument(
            f"there are {n} vectors, and a request takes at most {BATCH_MAX}: "
            f"search for each of np.array_split(vectors, len(vectors) // {BATCH_MAX} + 1)"
        )
    if dtype is not None and dtype not in _NUMPY_DTYPES:
        raise InvalidArgument(f"dtype {dtype!r} is none of {', '.join(_NUMPY_DTYPES)}")
    kept = array.dtype.name if array.dtype.name in _WIRE_DTYPES else "float32"
    name = _NUMPY_DTYPES[dtype] if dtype is not None else kept
    cast = np.ascontiguousarray(_checked_cast(array, name), dtype=np.dtype(name).newbyteorder("<"))
    return Vectors(cast.tobytes(), _WIRE_DTYPES[name], int(n), int(dim), array.ndim == 1)


def search_params(
    index: str,
    vectors: Vectors,
    k: int,
    *,
    search_list: Optional[int],
    target_recall: Optional[float],
    exact_distances: bool,
    rerank: Optional[str],
    deadline: Optional[float],
    explain: bool,
) -> Dict[str, Any]:
    if not 1 <= k <= K_MAX:
        raise InvalidArgument(f"k is {k}, not 1 to {K_MAX}")
    params: Dict[str, Any] = {
        "index": index,
        "dtype": vectors.dtype,
        "shape": [vectors.n, vectors.dim],
        "k": int(k),
    }
    if search_list is not None:
        params["search_list"] = int(search_list)
    if target_recall is not None:
        params["target_recall"] = float(target_recall)
    if exact_distances:
        params["exact_distances"] = True
    if rerank is not None:
        params["rerank"] = rerank
    if deadline is not None:
        params["deadline_ms"] = max(0, int(deadline * 1000))
    if explain:
        params["explain"] = True
    params["vectors"] = vectors.data
    return params


def reload_params(index: str, dram_budget: Union[int, str, None], plan_recall: Optional[float]) -> Dict[str, Any]:
    params: Dict[str, Any] = {"index": index}
    if dram_budget is not None:
        params["dram_budget"] = dram_budget
    if plan_recall is not None:
        params["plan_recall"] = float(plan_recall) if plan_recall else 0
    return params


# ---- results ----


def _stats_from_wire(stats: Any) -> SearchStats:
    if not isinstance(stats, dict):
        raise ProtocolError("a search's stats are no map")
    known = {f.name for f in fields(SearchStats)} - {"queries", "extra"}
    values = {key: value for key, value in stats.items() if key in known}
    extra = {key: value for key, value in stats.items() if key not in known and key != "queries"}
    queries = stats.get("queries", ())
    if not isinstance(queries, (list, tuple)):
        raise ProtocolError("a search's stats have queries that are no array")
    return SearchStats(**values, queries=tuple(map(_stats_from_wire, queries)), extra=extra)


def _array_from_wire(result: Dict[str, Any], key: str, wire: str, shape: Tuple[int, int]) -> npt.NDArray[Any]:
    data = result.get(key)
    dtype = np.dtype(wire)
    if not isinstance(data, bytes) or len(data) != shape[0] * shape[1] * dtype.itemsize:
        raise ProtocolError(f"a search's {key} are not as long as was asked for")
    # A copy: writable, aligned, and in the byte order of this machine.
    return np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


def search_result(result: Any, vectors: Vectors, k: int, explain: bool) -> SearchResult:
    shape = (vectors.n, k)
    if not isinstance(result, dict) or result.get("shape") != list(shape):
        raise ProtocolError("a search's shape is not the one asked for")
    ids = _array_from_wire(result, "ids", "<u8", shape)
    distances = _array_from_wire(result, "distances", "<f4", shape)
    generation, complete = result.get("generation"), result.get("complete")
    if not isinstance(generation, int) or not isinstance(complete, bool):
        raise ProtocolError("a search's generation or complete is missing")
    if vectors.single:
        ids, distances = ids[0], distances[0]
    stats = _stats_from_wire(result.get("stats")) if explain else None
    return SearchResult(ids, distances, generation, complete, stats)


def server_info(result: Any) -> ServerInfo:
    if not isinstance(result, dict):
        raise ProtocolError("hello is no map")
    protocol, max_message_bytes = result.get("protocol"), result.get("max_message_bytes")
    if protocol != PROTOCOL_VERSION:
        raise ProtocolError(f"the server speaks protocol {protocol}, this client {PROTOCOL_VERSION}")
    if not isinstance(max_message_bytes, int):
        raise ProtocolError("hello without max_message_bytes")
    return ServerInfo(
        server=str(result.get("server", "")),
        protocol=PROTOCOL_VERSION,
        max_message_bytes=max_message_bytes,
        methods=tuple(map(str, result.get("methods") or ())),
        indexes=tuple(map(str, result.get("indexes") or ())),
    )


def map_result(result: Any) -> Dict[str, Any]:
    if not isinstance(result, dict):
        raise ProtocolError("the answer is no map")
    return result


def ignore_result(result: Any) -> None:
    return None


# ---- messages ----


@dataclass(frozen=True)
class Reply:
    msgid: int
    error: Optional[FathomError]
    result: Any


class Wire:
    """One connection's bytes, both ways. Not for several threads at once."""

    def __init__(self, max_reply_bytes: int = MAX_REPLY_BYTES) -> None:
        self._next_msgid = 0
        self._buffer = bytearray()
        self._scanner = MessageScanner(max_reply_bytes)
        #: Learnt from hello; None until then.
        self.max_message_bytes: Optional[int] = None
        #: The server's last words: why it is about to close.
        self.closing: Optional[FathomError] = None

    def request(self, method: str, params: Dict[str, Any]) -> Tuple[int, bytes]:
        """The msgid and the bytes of a request."""
        msgid = self._next_msgid
        data: bytes = msgpack.packb([_REQUEST, msgid, method, [params]], use_bin_type=True)
        if self.max_message_bytes is not None and len(data) > self.max_message_bytes:
            raise InvalidArgument(
                f"a request of {len(data)} bytes, the server takes {self.max_message_bytes}: "
                "send fewer vectors at once"
            )
        self._next_msgid = (msgid + 1) & 0xFFFFFFFF
        return msgid, data

    def hello(self, client: str, token: Optional[str]) -> Tuple[int, bytes]:
        params: Dict[str, Any] = {"protocol": PROTOCOL_VERSION, "client": client}
        if token is not None:
            params["token"] = token
        return self.request("hello", params)

    @staticmethod
    def cancel(msgid: int) -> bytes:
        data: bytes = msgpack.packb([_NOTIFICATION, "cancel", [{"msgid": msgid}]])
        return data

    def feed(self, data: bytes) -> List[Reply]:
        """Takes received bytes; returns the replies that are whole now."""
        replies: List[Reply] = []
        self._buffer += data
        while self._buffer:
            size = self._scanner.scan(self._buffer)
            if size is None:
                break
            message = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
            self._scanner.reset()
            reply = self._decode(message)
            if reply is not None:
                replies.append(reply)
        return replies

    def _decode(self, data: bytes) -> Optional[Reply]:
        try:
            # Bounded by the scanner. Keys that are no text are refused by msgpack itself.
            message: List[Any] = msgpack.unpackb(data, raw=False, unicode_errors="replace")
        except (ValueError, TypeError) as fault:
            raise ProtocolError(f"a message is malformed: {fault}") from None
        if not isinstance(message, list) or len(message) < 3:
            raise ProtocolError("a message is not MessagePack-RPC: is it fathom-server, and not HTTP?")
        if message[0] == _NOTIFICATION and len(message) == 3:
            params = message[2]
            if message[1] == "closing" and isinstance(params, list) and params:
                self.closing = error_from_wire(params[0])
            return None  # else of a later version: nothing that we need
        if message[0] != _REPLY or len(message) != 4:
            raise ProtocolError("a message is neither a reply nor a notification")
        _, msgid, error, result = message
        if msgid is None and error is not None:
            self.closing = error_from_wire(error)  # it could not even read a msgid of ours
            return None
        if not isinstance(msgid, int) or isinstance(msgid, bool):
            raise ProtocolError("a reply's msgid is no number")
        return Reply(msgid, None if error is None else error_from_wire(error), result)


def no_hello(address: str) -> str:
    return (
        f"{address} takes connections, but answered no hello in the time allowed: "
        "is that fathom-server's --listen address, and not its HTTP port?"
    )


def default_client_name() -> str:
    python = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
    return f"fathom-client-python/{VERSION} ({python})"
