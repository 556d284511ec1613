"""URLs of files in stores, such as ``s3://bucket/call.wav``: told from paths, joined, and shown."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from sepnet.types import SepnetError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
LOCAL = ("file", "local")  # protocols of paths


def is_url(text: str | Path) -> bool:
    """Whether a text is the URL of something that is not a local file."""
    match = URL.match(text) if isinstance(text, str) else None
    return match is not None and protocol_of(match.group()) not in LOCAL


def path_or_url(text: str | Path) -> Path | str:
    """Return a URL as it is, and anything else as a path, the URLs of local files (``file://``) included."""
    if is_url(text):
        return str(text)
    match = URL.match(str(text))
    return Path(text) if match is None else Path(str(text)[match.end() :])


def local_path(text: str | Path) -> Path:
    """Return the path of a file or a folder of this machine.

    Args:
        text: A path, or a URL that starts with ``file://``.

    Raises:
        SepnetError: It is the URL of something in a store.
    """
    given = path_or_url(text)
    if isinstance(given, str):
        raise SepnetError(f"{shown(given)} is a URL, where only a path can be given: copy it to this machine")
    return given


def shown(url: str) -> str:
    """Return a URL as it may be shown: without user, password and query string."""
    start, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("?")[0].partition("/")
    port = authority.rpartition(":")[2] if ":" in authority else "0"
    if "@" not in authority and not port.isdecimal():  # a password with a slash
        return f"{start}{separator}{path.rpartition('@')[2]}"
    return f"{start}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def join_url(url: str, name: str | Path) -> str:
    """Return the URL of a file below a folder.

    Args:
        url: Of the folder.
        name: A relative path.

    Raises:
        SepnetError: The path leads out of the folder.
    """
    relative = PurePosixPath(name)
    if ".." in relative.parts or relative.is_absolute():
        raise SepnetError(f"{name} leads out of {shown(url)}: give a path below it, without ..")
    return f"{url.rstrip('/')}/{relative}"


def parent_url(url: str) -> str:
    """Return the URL of the folder that a file is in."""
    return url.partition("?")[0].rpartition("/")[0]


def split_pattern(url: str) -> tuple[str, str]:
    """Split a URL with ``*`` or ``[`` into the folder before these, and a pattern of paths below it.

    Args:
        url: Such as ``s3://calls/2026-*/monday.wav``; a query string would belong to the folder's URL.

    Raises:
        SepnetError: There is no folder before the pattern.
    """
    base, query, parameters = url.partition("?")
    before = base[: re.search(r"[*[]|$", base).start()]  # type: ignore[union-attr]  # $ matches
    folder = before.rpartition("/")[0]
    if folder.endswith(("/", ":")):
        raise SepnetError(f"{shown(url)} is a pattern of hosts or buckets: name one")
    return folder + query + parameters, base[len(folder) + 1 :]


def protocol_of(url: str) -> str:
    """Return the protocol of a URL, such as ``s3``."""
    return url.partition("://")[0].lower()
