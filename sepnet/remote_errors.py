"""What went wrong between sepnet and a store of files, in a sentence without credentials."""

from __future__ import annotations

import errno
import socket

from sepnet.types import SepnetError
from sepnet.urls import protocol_of, shown

NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "ProfileNotFound")
NO_CONNECTION = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ConnectError",
    "ConnectTimeout",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ConnectionTimeoutError",
)
CUT_CONNECTION = (
    "ClientPayloadError",
    "ConnectionClosedError",
    "IncompleteRead",
    "RemoteProtocolError",
    "ResponseStreamingError",
    "ServerDisconnectedError",
)


class MissingError(SepnetError):
    """There is nothing at a URL."""


class RefusedError(SepnetError):
    """The store refuses access to a URL."""


class UnreachableError(SepnetError):
    """The store does not answer."""


class BrokenBlockError(Exception):
    """A block does not have the bytes that it should have."""


def explain(url: str, verb: str, error: Exception, *, n_attempts: int) -> SepnetError:
    """Describe an error in a sentence, with nothing of its text, which may contain credentials.

    Args:
        url: Of the file.
        verb: What could not be done with it, such as ``read``.
        error: That of the last attempt.
        n_attempts: How many there were.

    Returns:
        The error to raise in its place.
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)  # type: ignore[arg-type]
    status = next((code for each in chain if (code := _status(each)) is not None), None)
    names = {type(each).__name__ for each in chain}
    if isinstance(error, FileNotFoundError) or status == 404:
        return MissingError(f"there is no {shown(url)}: check the URL")
    if isinstance(error, PermissionError) or status in (401, 403) or not names.isdisjoint(NO_CREDENTIALS):
        return RefusedError(
            f"{shown(url)} can't be {verb}, because the store refuses access: check the rights, and the "
            "credentials in the environment"
        )
    unreachable = isinstance(error, ConnectionRefusedError | socket.gaierror)
    if unreachable or not names.isdisjoint(NO_CONNECTION):
        return UnreachableError(
            f"the store of {shown(url)} can't be reached: check the network, and its address"
        )
    if isinstance(error, NotImplementedError):
        return SepnetError(f"{shown(url)} can't be {verb}: {protocol_of(url)}:// does not allow that")
    if isinstance(error, TimeoutError):
        reason = "the store takes too long to answer"
    elif isinstance(error, BrokenBlockError | ConnectionError) or not names.isdisjoint(CUT_CONNECTION):
        reason = "not all of it arrives"
    elif status is not None:
        reason = f"the store answers with status {status}"
    elif isinstance(error, OSError) and error.errno not in (None, errno.EIO):
        reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
    else:
        reason = f"the connection fails with {type(error).__name__}"
    return SepnetError(
        f"{shown(url)} can't be {verb} in {n_attempts} attempts: {reason}; run the same command again later"
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error of one of the libraries, if it has one."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # of botocore
        value = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        value = getattr(response, "status_code", getattr(error, "status", getattr(error, "code", None)))
    return value if isinstance(value, int) else None
