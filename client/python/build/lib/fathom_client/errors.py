"""What can go wrong, by the stable names of the protocol.

A failure seen on this side has the class that the same failure has on the other: a search whose time
is up is `DeadlineExceeded` whether the server said so or this client gave up waiting.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Mapping, Optional, Type

__all__ = [
    "Cancelled",
    "ConnectionLost",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FathomError",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "ProtocolError",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]


class FathomError(Exception):
    """The base of all: `code` is the protocol's name, also when it is one this version has no class for."""

    code: str = "unknown"
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        retryable: Optional[bool] = None,
        retry_after: Optional[float] = None,
        details: Optional[Mapping[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        #: The same request may succeed later.
        self.retryable = self.default_retryable if retryable is None else retryable
        #: Seconds to wait before that, when the server said.
        self.retry_after = retry_after
        #: What else the server said: `field`, `row`, `reason`...
        self.details: Dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Cancelled(FathomError):
    code = "cancelled"


class InvalidArgument(FathomError, ValueError):
    code = "invalid_argument"


class NotFound(FathomError, LookupError):
    code = "not_found"


class ResourceExhausted(FathomError):
    code = "resource_exhausted"

    @property
    def reason(self) -> str:
        """Of what there is too little: `rate`, `memory`, `disk` or `queue`; empty when not said."""
        return str(self.details.get("reason", ""))


class DeadlineExceeded(FathomError, TimeoutError):
    code = "deadline_exceeded"
    default_retryable = True


class DataLoss(FathomError):
    """Bytes of the index are damaged; other queries may still succeed."""

    code = "data_loss"


class Unavailable(FathomError):
    code = "unavailable"
    default_retryable = True


class Unauthenticated(FathomError):
    code = "unauthenticated"


class PermissionDenied(FathomError):
    code = "permission_denied"


class FailedPrecondition(FathomError):
    code = "failed_precondition"


class Unimplemented(FathomError):
    code = "unimplemented"


class Internal(FathomError):
    code = "internal"


class ConnectionLost(Unavailable, ConnectionError):
    """The server cannot be reached, or has closed the connection. Nothing is sent again by itself:
    `reconnect()`, then repeat what should be repeated."""


class ProtocolError(Internal):
    """Bytes that no fathom server sends. The connection is closed."""


_CLASSES: Dict[str, Type[FathomError]] = {
    cls.code: cls
    for cls in (
        Cancelled,
        InvalidArgument,
        NotFound,
        ResourceExhausted,
        DeadlineExceeded,
        DataLoss,
        Unavailable,
        Unauthenticated,
        PermissionDenied,
        FailedPrecondition,
        Unimplemented,
        Internal,
    )
}


def error_from_wire(error: Any) -> FathomError:
    """The exception for the error of a reply, whatever it looks like."""
    if not isinstance(error, dict):
        return Internal(str(error))
    code = str(error.get("code", "internal"))
    details = error.get("details")
    details = dict(details) if isinstance(details, dict) else {}
    if "reason" in error:
        details.setdefault("reason", error["reason"])
    retry_after_ms = error.get("retry_after_ms")
    retry_after: Optional[float] = None
    if isinstance(retry_after_ms, (int, float)) and not isinstance(retry_after_ms, bool):
        retry_after = retry_after_ms / 1000
    return _CLASSES.get(code, FathomError)(
        str(error.get("message", "")) or "the server gave no message",
        code=code,
        retryable=bool(error.get("retryable", False)),
        retry_after=retry_after,
        details=details,
    )
