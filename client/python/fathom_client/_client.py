"""The blocking client: one socket, one call at a time."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Any, Callable, Dict, Optional, Set, Type, TypeVar, Union

import numpy.typing as npt

from . import _wire
from .errors import ConnectionLost, DeadlineExceeded, FathomError, ProtocolError, Unavailable
from .types import SearchResult, ServerInfo

__all__ = ["Client"]

_T = TypeVar("_T")
_DEADLINE_GRACE = 1.0  # seconds for the server's own "deadline_exceeded" to arrive
_READ_BYTES = 1 << 18


class Client:
    """A connection to a fathom-server.

    Args:
        address: `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`.
        token: for a server that asks for one.
        connect_timeout: seconds for the connection and its hello (name resolution is not bounded by it).
        timeout: seconds for each call, whatever the server does; None: no bound.
        max_reply_bytes: longer replies are refused.

    Threads: a client may be shared; its calls then wait for one another. Use one client a thread, or
    `AsyncClient`, to have several requests in flight.

    Lost connections are never mended silently: the call fails with `ConnectionLost`, and so do later ones
    until `reconnect()`. After a timeout the connection stays usable; a late answer is dropped.
    """

    def __init__(
        self,
        address: str = _wire.DEFAULT_ADDRESS,
        *,
        token: Optional[str] = None,
        connect_timeout: Optional[float] = 5.0,
        timeout: Optional[float] = 60.0,
        max_reply_bytes: int = _wire.MAX_REPLY_BYTES,
        client_name: Optional[str] = None,
    ) -> None:
        self._address = _wire.parse_address(address)
        self._token = token
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._max_reply_bytes = max_reply_bytes
        self._client_name = client_name or _wire.default_client_name()
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket] = None
        self._lost: FathomError = ConnectionLost("the client is closed")
        self._server: ServerInfo
        self.reconnect()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fathom_client.Client {self._address.text}{' closed' if self.closed else ''}>"

    # ---- the connection ----

    @property
    def address(self) -> str:
        return self._address.text

    @property
    def closed(self) -> bool:
        """The connection is lost or was closed."""
        return self._socket is None

    def close(self) -> None:
        """Closes the connection. Later calls fail with `ConnectionLost`."""
        with self._lock:
            self._lose(ConnectionLost("the client is closed"))

    def reconnect(self) -> None:
        """Drops the connection, if there is one, and makes a new one."""
        with self._lock:
            self._lose(ConnectionLost("the client is connecting"))
            end = _end_of(self._connect_timeout)
            self._wire = _wire.Wire(self._max_reply_bytes)
            self._abandoned: Set[int] = set()
            try:
                self._socket = self._connect(end)
                msgid, data = self._wire.hello(self._client_name, self._token)
                try:
                    self._server = _wire.server_info(self._exchange(msgid, data, end))
                except DeadlineExceeded:
                    raise DeadlineExceeded(_wire.no_hello(self.address)) from None
            except FathomError as error:
                self._lose(ConnectionLost(f"{self.address} could not be connected to: {error.message}"))
                raise
            self._wire.max_message_bytes = self._server.max_message_bytes

    def _connect(self, end: Optional[float]) -> socket.socket:
        address = self._address
        try:
            if address.path is None:
                connected = socket.create_connection((address.host, address.port), _left(end))
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connected
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connected.settimeout(_left(end))
                connected.connect(address.path)
            except BaseException:
                connected.close()
                raise
            return connected
        except OSError as error:
            raise _cannot_connect(address.text, error) from error

    def _lose(self, error: FathomError) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._lost = error

    # ---- one call ----

    def _call(
        self, method: str, params: Dict[str, Any], decode: Callable[[Any], _T], timeout: Optional[float]
    ) -> _T:
        end = _end_of(timeout)
        if not self._lock.acquire(timeout=-1 if end is None else max(0.0, end - time.monotonic())):
            raise DeadlineExceeded("another thread's call took all the time; use one client a thread")
        try:
            if self._socket is None:
                raise ConnectionLost(self._lost.message)
            msgid, data = self._wire.request(method, params)
            result = self._exchange(msgid, data, end)
            try:
                return decode(result)
            except ProtocolError as error:
                self._lose(error)
                raise
        finally:
            self._lock.release()

    def _exchange(self, msgid: int, data: bytes, end: Optional[float]) -> Any:
        """Sends a request and returns the result of its reply. The lock is held."""
        try:
            self._send(data, end)
            reply = self._receive(msgid, end)
        except (ProtocolError, ConnectionLost) as error:
            self._lose(error)
            raise
        except FathomError:
            raise
        except OSError as error:
            lost = ConnectionLost(f"connection to {self.address} failed: {error}")
            self._lose(lost)
            raise lost from error
        except BaseException:
            # An interrupt may have cut a message in two.
            self._lose(ConnectionLost("the connection was closed when a call was interrupted"))
            raise
        if reply.error is not None:
            raise reply.error
        return reply.result

    def _send(self, data: bytes, end: Optional[float]) -> None:
        assert self._socket is not None
        view = memoryview(data)
        try:
            while view:
                self._socket.settimeout(_left(end))
                view = view[self._socket.send(view) :]
        except socket.timeout:
            # Half a request cannot be taken back.
            self._lose(ConnectionLost("the connection was closed in the middle of a request"))
            raise DeadlineExceeded(f"{self.address} did not take the request in the time allowed") from None
        except (BrokenPipeError, ConnectionResetError):
            raise _closed_by_server(self.address, self._last_words()) from None

    def _last_words(self) -> Optional[FathomError]:
        """What the server said before it closed, when it said why. It may still wait to be read."""
        assert self._socket is not None
        try:
            self._socket.settimeout(0)
            self._wire.feed(self._socket.recv(_READ_BYTES))
        except (OSError, ProtocolError):
            pass  # then there are none
        return self._wire.closing

    def _receive(self, msgid: int, end: Optional[float]) -> _wire.Reply:
        assert self._socket is not None
        while True:
            try:
                self._socket.settimeout(_left(end))
                data = self._socket.recv(_READ_BYTES)
            except socket.timeout:
                self._abandoned.add(msgid)
                self._send(self._wire.cancel(msgid), time.monotonic() + 0.1)
                raise DeadlineExceeded(f"no answer from {self.address} in the time allowed") from None
            if not data:
                raise _closed_by_server(self.address, self._wire.closing)
            found: Optional[_wire.Reply] = None
            for reply in self._wire.feed(data):
                if reply.msgid == msgid:
                    found = reply
                elif reply.msgid in self._abandoned:
                    self._abandoned.discard(reply.msgid)
                else:
                    raise ProtocolError("a reply to a request that was not made")
            if found is not None:
                return found

    # ---- the methods of the protocol ----

    def hello(self) -> ServerInfo:
        """What the server said when the connection was made."""
        return self._server

    def ping(self, *, timeout: Optional[float] = None) -> float:
        """Seconds that an answer took."""
        start = time.monotonic()
        self._call("ping", {}, _wire.ignore_result, self._bound(timeout))
        return time.monotonic() - start

    def info(self, index: Optional[str] = None, *, timeout: Optional[float] = None) -> Dict[str, Any]:
        """What the server serves: of one index, or of all."""
        params = {} if index is None else {"index": index}
        return self._call("info", params, _wire.map_result, self._bound(timeout))

    def stats(self, *, timeout: Optional[float] = None) -> Dict[str, Any]:
        """What the server has counted since its start."""
        return self._call("stats", {}, _wire.map_result, self._bound(timeout))

    def reload(
        self,
        index: str,
        *,
        dram_budget: Union[int, str, None] = None,
        plan_recall: Optional[float] = None,
        timeout: Optional[float] = None,
    ) -> Dict[str, Any]:
        """Has the server open the newest generation of an index and swap; the old one stays when that fails.

        dram_budget: what the index may keep in memory from now on, in bytes or as `"512MiB"` or `"5%"` of its
            vectors as f32, 0 for no bound; None: as it was.
        plan_recall: the target_recall that its queries will have, 0 for none; None: as it was.
        """
        params = _wire.reload_params(index, dram_budget, plan_recall)
        return self._call("reload", params, _wire.map_result, self._bound(timeout))

    def shutdown(self, *, timeout: Optional[float] = None) -> None:
        """Asks the server to drain and end; returns when it has agreed."""
        self._call("shutdown", {}, _wire.ignore_result, self._bound(timeout))

    def search(
        self,
        index: str,
        vectors: npt.ArrayLike,
        k: int = 10,
        *,
        search_list: Optional[int] = None,
        target_recall: Optional[float] = None,
        exact_distances: bool = False,
        rerank: Optional[str] = None,
        dtype: Optional[str] = None,
        deadline: Optional[float] = None,
        explain: bool = False,
        timeout: Optional[float] = None,
    ) -> SearchResult:
        """Searches for one vector, shape (dim,), or a batch, shape (n, dim).

        float32, float16, int8 and uint8 arrays are sent as they are; every other real number becomes
        float32, and values that do not fit are refused. `dtype` (`f32`, `f16`, `i8`, `u8`) casts
        instead, with the same check.

        Args:
            search_list: L; longer is more exact and slower. None: from target_recall, or the default.
            target_recall: in (0, 1); lets the index choose L.
            exact_distances: read the full vector of every result.
            rerank: `on` or `off`: rank by full vectors what 8-bit rows leave in doubt. None: where target_recall
                needs it.
            deadline: seconds after which the server gives up.
            explain: fill `stats`.
            timeout: seconds for this call, in place of the client's.
        """
        encoded = _wire.encode_vectors(vectors, dtype)
        params = _wire.search_params(
            index,
            encoded,
            k,
            search_list=search_list,
            target_recall=target_recall,
            exact_distances=exact_distances,
            rerank=rerank,
            deadline=deadline,
            explain=explain,
        )

        def decode(result: Any) -> SearchResult:
            return _wire.search_result(result, encoded, k, explain)

        return self._call("search", params, decode, search_bound(self._bound(timeout), deadline))

    def _bound(self, timeout: Optional[float]) -> Optional[float]:
        return self._timeout if timeout is None else timeout


def search_bound(timeout: Optional[float], deadline: Optional[float]) -> Optional[float]:
    """How long to wait for a search that the server itself gives up at the deadline."""
    if deadline is None:
        return timeout
    bound = deadline + _DEADLINE_GRACE
    return bound if timeout is None else min(timeout, bound)


def _end_of(timeout: Optional[float]) -> Optional[float]:
    return None if timeout is None else time.monotonic() + timeout


def _left(end: Optional[float]) -> Optional[float]:
    """For settimeout, to which 0 means not to block."""
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _cannot_connect(address: str, error: OSError) -> Unavailable:
    hint = ""
    if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
        hint = "; is fathom-server running there? (its --listen gives the address)"
    elif isinstance(error, socket.timeout):
        hint = "; check the host, the port and firewalls, or allow more time"
    return ConnectionLost(f"cannot connect to {address}: {error.strerror or error}{hint}")


def _closed_by_server(address: str, closing: Optional[FathomError]) -> FathomError:
    why = f": {closing.message}" if closing is not None else "; reconnect when it is back"
    details = {"closing": closing.code} if closing is not None else {}
    return ConnectionLost(f"{address} closed the connection{why}", details=details)
