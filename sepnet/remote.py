"""Files in stores, by URL, such as ``s3://bucket/call.wav``; through fsspec.

A file is read in blocks. A block that does not arrive whole, or not in time, is asked for again. An object
store shows a new object when all of it has arrived, or not at all; anywhere else, a file is written under a
temporary name and then moved. Credentials are those that fsspec takes from the environment or from its own
settings. No message contains them: it has the URL without user, password and query string, and of an error
only its kind.
"""

from __future__ import annotations

import glob
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from sepnet.remote_errors import BrokenBlockError, MissingError, RefusedError, explain
from sepnet.types import SepnetError
from sepnet.urls import protocol_of, shown

T = TypeVar("T")
# Stores in which a reader never sees a part of a new object.
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "hf", "abfs", "abfss", "az", "oss")
PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "'sepnet[remote]'"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "hf": "huggingface_hub",
}
VERSION_KEYS = (
    "ETag",
    "etag",
    "md5Hash",
    "blob_id",
    "mtime",
    "LastModified",
    "last_modified",
    "modified",
    "created",
)
BLOCK_BYTES = 8 << 20
BLOCK_SECONDS = 120.0  # in which a block, or any other answer, has to arrive
MIN_BYTES_PER_SECOND = 70_000  # of an upload
WAITS_SECONDS = (0.5, 2.0)  # before another attempt
CONNECT_SECONDS, SILENCE_SECONDS = 10, 30  # of S3, for a connection and between two of its bytes
N_CONNECTIONS = 16  # that ask for sizes at the same time
LOGGERS = ("aiobotocore", "botocore", "fsspec", "gcsfs", "google", "httpx", "s3fs", "urllib3")


@dataclass(frozen=True)
class RemoteFile:
    """A file in a store.

    Attributes:
        url: Where it is, with all that is needed to read it.
        n_bytes: Its size.
        version: Changes with its content, where the store tells; otherwise empty.
        is_folder: Whether it is a folder.
        problem: Why it can't be read; empty if nothing is known to be wrong.
    """

    url: str = field(repr=False)
    n_bytes: int = 0
    version: str = ""
    is_folder: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        """Of the file, without folders."""
        return PurePosixPath(shown(self.url)).name


def describe(url: str) -> RemoteFile:
    """Ask for size and version of a file, or whether it is a folder.

    Args:
        url: Its URL.

    Raises:
        SepnetError: It isn't there or can't be read, or the store can't be reached.
    """
    return _remote_file(url, _retried(url, "read", _info))


def describe_all(urls: Sequence[str]) -> list[RemoteFile]:
    """Ask for size and version of each file; of one that can't be read, the reason becomes its ``problem``.

    Args:
        urls: Their URLs.

    Raises:
        SepnetError: A store can't be reached or used at all.
    """
    pool = ThreadPoolExecutor(N_CONNECTIONS)
    try:
        return list(pool.map(_describe_or_explain, urls))
    finally:
        pool.shutdown(cancel_futures=True)


def _describe_or_explain(url: str) -> RemoteFile:
    try:
        return describe(url)
    except (MissingError, RefusedError) as error:
        return RemoteFile(url, problem=str(error))


def list_files(url: str, pattern: str | None = None) -> dict[str, RemoteFile]:
    """List the files in a folder and below.

    Args:
        url: Of the folder.
        pattern: With ``*``, ``?``, ``[`` or ``**``, which their paths below the folder match; None: all.

    Returns:
        The files by their paths below the folder, sorted.

    Raises:
        SepnetError: It can't be read, or the store can't be reached.
    """

    def find(fs: Any, path: str) -> dict[str, Any]:
        root = path.rstrip("/")
        fs.invalidate_cache()
        if pattern is None:
            entries = fs.find(path, detail=True)
        else:
            entries = fs.glob(f"{glob.escape(root)}/{pattern}", detail=True)
        return {name.removeprefix(root).lstrip("/"): info for name, info in entries.items()}

    entries = _retried(url, "read", find)
    base, query, parameters = url.partition("?")
    files = {
        name: _remote_file(f"{base.rstrip('/')}/{name}{query}{parameters}", info)
        for name, info in sorted(entries.items())
        if name and info["type"] != "directory"
    }
    if protocol_of(url) in OBJECT_STORES:
        return files
    # The lists of others may lack sizes, or tell versions in another form.
    described = describe_all([file.url for file in files.values()])
    return dict(zip(files, described, strict=True))


def fetch(file: RemoteFile, target: Path) -> None:
    """Copy a file to this machine, in blocks.

    Args:
        file: As it was described.
        target: The local file; what is written stays if this fails.

    Raises:
        SepnetError: It can't be read, or it was changed since it was described.
    """
    with target.open("wb") as stream:
        for start in range(0, file.n_bytes, BLOCK_BYTES):
            stop = min(start + BLOCK_BYTES, file.n_bytes)
            stream.write(_retried(file.url, "read", partial(_read_block, start, stop)))
    if describe(file.url) != file:
        raise SepnetError(f"{shown(file.url)} was changed while it was read: run the command again")


def read_bytes(url: str) -> bytes | None:
    """Read a small file; None if it isn't there. Raises SepnetError."""
    try:
        content: bytes = _retried(url, "read", lambda fs, path: fs.cat_file(path))
    except MissingError:
        return None
    return content


def exists(url: str) -> bool:
    """Whether there is a file at a URL. Raises SepnetError."""
    try:
        return not describe(url).is_folder
    except MissingError:
        return False


def put(source: Path, url: str) -> None:
    """Copy a file to a store, where it appears whole or not at all.

    Args:
        source: The local file.
        url: Where it is put; what is there is replaced.

    Raises:
        SepnetError: It can't be written there.
    """
    seconds = BLOCK_SECONDS + source.stat().st_size / MIN_BYTES_PER_SECOND
    _retried(url, "written", partial(_put, source), seconds)


def remove(url: str) -> None:
    """Remove a file. Raises SepnetError."""
    _retried(url, "removed", lambda fs, path: fs.rm_file(path))


def _put(source: Path, fs: Any, path: str) -> None:
    n_bytes = source.stat().st_size
    if not set(OBJECT_STORES).isdisjoint([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol):
        fs.put_file(str(source), path)
        _check_size(fs, path, n_bytes)
        return
    parent, _, name = path.rpartition("/")
    fs.makedirs(parent, exist_ok=True)
    temporary = f"{parent}/.{name}-{secrets.token_hex(6)}.part"
    try:
        fs.put_file(str(source), temporary)
        _check_size(fs, temporary, n_bytes)
        fs.mv(temporary, path)
    except BaseException:
        if fs.exists(temporary):
            fs.rm_file(temporary)
        raise


def _check_size(fs: Any, path: str, n_bytes: int) -> None:
    if _info(fs, path)["size"] != n_bytes:
        raise BrokenBlockError


def _read_block(start: int, stop: int, fs: Any, path: str) -> bytes:
    block: bytes = fs.cat_file(path, start=start, end=stop)
    if len(block) != stop - start:
        raise BrokenBlockError
    return block


def _info(fs: Any, path: str) -> dict[str, Any]:
    """What the store knows of a file now, not what fsspec remembers."""
    fs.invalidate_cache()
    info: dict[str, Any] = fs.info(path)
    return info


def _remote_file(url: str, info: dict[str, Any]) -> RemoteFile:
    version = next((str(info[key]) for key in VERSION_KEYS if info.get(key) is not None), "")
    return RemoteFile(url, int(info["size"] or 0), version, is_folder=info["type"] == "directory")


def _connect(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    protocol = protocol_of(url)
    try:
        import fsspec
    except ImportError:
        raise SepnetError(
            f"{shown(url)} needs fsspec, which is not installed: pip install 'sepnet[remote]'"
        ) from None
    if protocol not in fsspec.available_protocols() or "::" in url:
        raise SepnetError(
            f"{shown(url)} has an unknown protocol: give s3://, gs://, hf://, file:// or another of fsspec"
        )
    for name in LOGGERS:  # which report requests, and where credentials were found
        logging.getLogger(name).setLevel(logging.WARNING)
    options: dict[str, Any] = {}
    if protocol in ("s3", "s3a"):  # attempts are made here: those of botocore would multiply them
        own = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": SILENCE_SECONDS}
        options["config_kwargs"] = {"retries": {"max_attempts": 0}, **limits, **own}
    try:
        fs, path = fsspec.url_to_fs(url, **options)
    except ImportError:
        package = PACKAGES.get(protocol, "")
        remedy = f": pip install {package}" if package else ""
        raise SepnetError(f"{protocol}:// needs a package that is not installed{remedy}") from None
    return fs, str(path)


def _retried(url: str, verb: str, action: Callable[[Any, str], T], seconds: float | None = None) -> T:
    """Do something with a URL, again where it fails for a reason that may pass.

    Args:
        url: The URL.
        verb: What is done, for the message.
        action: Gets the file system, and the path in it.
        seconds: In which each attempt has to succeed; None: as a block.
    """
    for wait in (*WAITS_SECONDS, None):
        try:
            return _in_time(lambda: action(*_connect(url)), BLOCK_SECONDS if seconds is None else seconds)
        except SepnetError:
            raise
        except Exception as error:
            refusal = explain(url, verb, error, n_attempts=len(WAITS_SECONDS) + 1)
            may_pass = not isinstance(error, NotImplementedError | ValueError | TypeError)
            if wait is None or not may_pass or isinstance(refusal, MissingError | RefusedError):
                raise refusal from None  # the error itself may contain credentials
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _in_time(action: Callable[[], T], seconds: float) -> T:
    """Call a function in a thread, which is left alone if it does not return in time."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
