"""The asyncio client: many requests in flight on one connection."""

from __future__ import annotations

import asyncio
import copy
import time
from types import TracebackType
from typing import Any, Callable, Dict, Optional, Set, Type, TypeVar, Union

import numpy.typing as npt

from . import _wire
from ._client import _cannot_connect, _closed_by_server, search_bound
from .errors import ConnectionLost, DeadlineExceeded, FathomError, ProtocolError
from .types import SearchResult, ServerInfo

__all__ = ["AsyncClient"]

_T = TypeVar("_T")
_READ_BYTES = 1 << 18


class AsyncClient:
    """A connection to a fathom-server, for asyncio.

        async with AsyncClient("127.0.0.1:7117") as client:
            results = await asyncio.gather(*(client.search("words", v) for v in vectors))

    Calls may overlap: each is matched to its answer, whatever the order of answers; at most
    `max_inflight` are with the server at once, the rest wait. Cancelling a call (also by a timeout)
    tells the server, and leaves the connection usable.

    A client belongs to one event loop; it is not for several threads. Lost connections are never mended
    silently: calls in flight and later ones fail with `ConnectionLost` until `reconnect()`.

    The arguments are those of `Client`.
    """

    def __init__(
        self,
        address: str = _wire.DEFAULT_ADDRESS,
        *,
        token: Optional[str] = None,
        connect_timeout: Optional[float] = 5.0,
        timeout: Optional[float] = 60.0,
        max_reply_bytes: int = _wire.MAX_REPLY_BYTES,
        max_inflight: int = 64,
        client_name: Optional[str] = None,
    ) -> None:
        self._address = _wire.parse_address(address)
        self._token = token
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._max_reply_bytes = max_reply_bytes
        self._max_inflight = max_inflight
        self._client_name = client_name or _wire.default_client_name()
        self._writer: Optional[asyncio.StreamWriter] = None
        self._reading: Optional["asyncio.Task[None]"] = None
        self._lost: FathomError = ConnectionLost("the client is not connected: use `async with`, or connect()")
        self._server: Optional[ServerInfo] = None

    async def __aenter__(self) -> "AsyncClient":
        await self.connect()
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<fathom_client.AsyncClient {self._address.text}{' closed' if self.closed else ''}>"

    # ---- the connection ----

    @property
    def address(self) -> str:
        return self._address.text

    @property
    def closed(self) -> bool:
        """Not connected yet, or the connection is lost."""
        return self._writer is None

    async def connect(self) -> None:
        """Connects and says hello; nothing when there is a connection."""
        if not self.closed:
            return
        self._wire = _wire.Wire(self._max_reply_bytes)
        self._waiting: Dict[int, "asyncio.Future[Any]"] = {}
        self._abandoned: Set[int] = set()
        self._room = asyncio.Semaphore(self._max_inflight)
        try:
            await asyncio.wait_for(self._connect(), self._connect_timeout)
        except BaseException as error:
            message = f"cannot connect to {self.address} in the time allowed"
            if self._writer is not None:
                message = _wire.no_hello(self.address)
            is_late = isinstance(error, asyncio.TimeoutError) and not isinstance(error, FathomError)
            await self._end(ConnectionLost(message if is_late else str(error)))
            if is_late:
                raise DeadlineExceeded(message) from None
            raise

    async def _connect(self) -> None:
        address = self._address
        try:
            if address.path is None:
                reader, writer = await asyncio.open_connection(address.host, address.port)
            else:
                reader, writer = await asyncio.open_unix_connection(address.path)
        except OSError as error:
            raise _cannot_connect(address.text, error) from error
        self._writer = writer
        self._reading = asyncio.ensure_future(self._read(reader, writer))
        msgid, data = self._wire.hello(self._client_name, self._token)
        self._server = await self._exchange(msgid, data, _wire.server_info)
        self._wire.max_message_bytes = self._server.max_message_bytes

    async def reconnect(self) -> None:
        """Drops the connection, if there is one, and makes a new one. Calls in flight fail."""
        await self._end(ConnectionLost("the connection was given up by a reconnect"))
        await self.connect()

    async def close(self) -> None:
        """Closes the connection; calls in flight fail."""
        await self._end(ConnectionLost("the client is closed"))

    async def _end(self, error: FathomError) -> None:
        reading, writer = self._reading, self._writer
        self._lose(error)
        self._reading = None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if writer is not None:
            try:
                await writer.wait_closed()
            except OSError:
                pass  # it is gone in any case

    def _lose(self, error: FathomError) -> None:
        """Fails what waits. May be called again."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        self._lost = error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(copy.copy(error))  # each has a traceback of its own
                future.exception()  # nobody may be waiting any more: that is no news for the log
        self._waiting.clear()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes messages until the stream ends; the one reader of the connection."""
        error: FathomError
        try:
            while True:
                data = await reader.read(_READ_BYTES)
                if not data:
                    error = _closed_by_server(self.address, self._wire.closing)
                    break
                for reply in self._wire.feed(data):
                    self._take(reply)
        except ProtocolError as fault:
            error = fault
        except OSError as fault:
            error = ConnectionLost(f"connection to {self.address} failed: {fault}")
        if self._writer is writer:
            self._lose(error)

    def _take(self, reply: _wire.Reply) -> None:
        if reply.msgid in self._abandoned:
            self._abandoned.discard(reply.msgid)
            return
        future = self._waiting.pop(reply.msgid, None)
        if future is None:
            raise ProtocolError("a reply to a request that was not made")
        if future.done():
            return
        if reply.error is not None:
            future.set_exception(reply.error)
        else:
            future.set_result(reply.result)

    # ---- one call ----

    async def _exchange(self, msgid: int, data: bytes, decode: Callable[[Any], _T]) -> _T:
        writer = self._writer
        if writer is None:
            raise ConnectionLost(self._lost.message)
        future: "asyncio.Future[Any]" = asyncio.get_running_loop().create_future()
        self._waiting[msgid] = future
        writer.write(data)
        try:
            await writer.drain()
        except OSError:
            pass  # the reader sees it too, and knows what the server said last
        except asyncio.CancelledError:
            self._abandon(msgid)
            raise
        try:
            result = await future
        except asyncio.CancelledError:
            self._abandon(msgid)
            raise
        try:
            return decode(result)
        except ProtocolError as error:
            self._lose(error)
            raise

    def _abandon(self, msgid: int) -> None:
        """Nobody waits for this answer any more: the server may drop the request."""
        if self._waiting.pop(msgid, None) is None or self._writer is None:
            return
        self._abandoned.add(msgid)
        self._writer.write(self._wire.cancel(msgid))

    async def _call(
        self, method: str, params: Dict[str, Any], decode: Callable[[Any], _T], timeout: Optional[float]
    ) -> _T:
        async def run() -> _T:
            async with self._room:
                if self._writer is None:
                    raise ConnectionLost(self._lost.message)
                msgid, data = self._wire.request(method, params)
                return await self._exchange(msgid, data, decode)

        if self._writer is None:
            raise ConnectionLost(self._lost.message)
        try:
            return await asyncio.wait_for(run(), timeout)
        except asyncio.TimeoutError as error:
            if isinstance(error, FathomError):
                raise  # the server's own
            raise DeadlineExceeded(f"no answer from {self.address} in the time allowed") from None

    # ---- the methods of the protocol ----

    def hello(self) -> ServerInfo:
        """What the server said when the connection was made."""
        if self._server is None:
            raise ConnectionLost(self._lost.message)
        return self._server

    async def ping(self, *, timeout: Optional[float] = None) -> float:
        """Seconds that an answer took."""
        start = time.monotonic()
        await self._call("ping", {}, _wire.ignore_result, self._bound(timeout))
        return time.monotonic() - start

    async def info(self, index: Optional[str] = None, *, timeout: Optional[float] = None) -> Dict[str, Any]:
        """What the server serves: of one index, or of all."""
        params = {} if index is None else {"index": index}
        return await self._call("info", params, _wire.map_result, self._bound(timeout))

    async def stats(self, *, timeout: Optional[float] = None) -> Dict[str, Any]:
        """What the server has counted since its start."""
        return await self._call("stats", {}, _wire.map_result, self._bound(timeout))

    async def reload(
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
        return await self._call("reload", params, _wire.map_result, self._bound(timeout))

    async def shutdown(self, *, timeout: Optional[float] = None) -> None:
        """Asks the server to drain and end; returns when it has agreed."""
        await self._call("shutdown", {}, _wire.ignore_result, self._bound(timeout))

    async def search(
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
        """Searches for one vector, shape (dim,), or a batch, shape (n, dim): see `Client.search`."""
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

        return await self._call("search", params, decode, search_bound(self._bound(timeout), deadline))

    def _bound(self, timeout: Optional[float]) -> Optional[float]:
        return self._timeout if timeout is None else timeout
