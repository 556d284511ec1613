"""Fetch a corpus: download its archive, verify it, unpack it.

torchaudio also downloads LibriSpeech, but it takes any archive of that name as complete, starts anew after
each interruption, and leaves half a folder when unpacking stops. Here an archive gets its name only after its
checksum is verified, a download continues where it stopped, and a folder gets its name only when it is
complete.

This module does not write through ``sepnet.atomic``, which deletes what a failed write has written: here a
partial archive has to stay, so that the download can continue. The same holds for the folder of ``unpack``,
which is a part of what is unpacked.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from sepnet.atomic import parents_of
from sepnet.paths import expand_home
from sepnet.types import SepnetError

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
MAX_FAILURES = 5  # in a row, without a new byte

LIBRISPEECH_URL = "https://www.openslr.org/resources/12"
LIBRISPEECH_SHA256 = {  # as torchaudio.datasets.LIBRISPEECH has them
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}


def librispeech(
    *,
    root: str | Path,
    subset: str | Sequence[str],
    url: str = LIBRISPEECH_URL,
    checksums: Mapping[str, str] | None = None,
    keep_archive: bool = False,
    progress: bool = True,
) -> Path:
    """Download subsets of LibriSpeech (V. Panayotov et al. 2015, CC BY 4.0) into ``root``/LibriSpeech.

    A subset whose folder exists is not downloaded again.

    Args:
        root: The folder to download to.
        subset: A name such as "dev-clean", or several.
        url: The folder of the archives on the server, or on a mirror.
        checksums: SHA-256 of the archive of each subset, if the mirror has other archives.
        keep_archive: Keep the archives after unpacking them.
        progress: Show a progress bar on a terminal.

    Returns:
        The folder of the subsets.

    Raises:
        SepnetError: The subset is unknown, or as ``fetch`` and ``unpack`` do.
    """
    known = dict(checksums or LIBRISPEECH_SHA256)
    names = [subset] if isinstance(subset, str) else list(subset)
    if unknown := [name for name in names if name not in known]:
        raise SepnetError(f"LibriSpeech has no subset {', '.join(unknown)}: choose from {', '.join(known)}")
    root = expand_home(root)
    for name in names:
        folder = root / "LibriSpeech" / name
        archive = root / f"{name}.tar.gz"
        if folder.is_dir():
            log.info("%s exists already", folder)
            _tidy(archive, root, keep_archive)
            continue
        fetch(f"{url.rstrip('/')}/{archive.name}", archive, sha256=known[name], progress=progress)
        unpack(archive, root, f"LibriSpeech/{name}")
        _tidy(archive, root, keep_archive)
    return root / "LibriSpeech"


def fetch(url: str, target: str | Path, *, sha256: str, progress: bool = True) -> Path:
    """Download a file; a partial download, ``<target>.part``, is continued.

    A file at ``target`` (put there by hand, say) is verified and not downloaded.

    Args:
        url: The address of the file.
        target: The path of the downloaded file.
        sha256: Its checksum.
        progress: Show a progress bar on a terminal.

    Returns:
        ``target``.

    Raises:
        SepnetError: The server can't be reached, the connection breaks repeatedly, the disk is full, or the
            checksum is wrong; a download with a wrong checksum is deleted. ``target`` never appears then.
    """
    target = Path(target)
    if target.exists():
        if (digest := _sha256(target)) != sha256:
            raise SepnetError(f"{target} has SHA-256 {digest}, not {sha256}: delete it and run again")
        return target
    part = target.with_name(target.name + ".part")
    try:
        with parents_of(target):
            _download(url, target, part, progress)
            if (digest := _sha256(part)) != sha256:
                part.unlink()
                raise SepnetError(
                    f"the download of {url} has SHA-256 {digest}, not {sha256}; it was deleted. Run again; "
                    f"if that doesn't help, download it elsewhere and put it at {target}"
                )
            part.replace(target)
    except OSError as error:
        free_mb = shutil.disk_usage(_existing(target)).free / 1e6
        raise SepnetError(
            f"can't write {part}: {error.strerror or error}; {free_mb:.0f} MB are free there. Make room or "
            "choose another root, then run again: the download continues where it stopped"
        ) from error
    return target


def unpack(archive: str | Path, root: str | Path, folder: str) -> Path:
    """Unpack a folder of a tar archive; it gets its name when it is complete.

    Args:
        archive: The archive.
        root: The folder to unpack into.
        folder: The folder in the archive; it becomes ``root/folder``.

    Returns:
        ``root/folder``.

    Raises:
        SepnetError: The archive is damaged, lacks the folder, or would write outside ``root``.
    """
    archive, target = Path(archive), Path(root) / folder
    unpacking = _unpacking(archive, Path(root))
    shutil.rmtree(unpacking, ignore_errors=True)  # left by a run that was killed
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(unpacking, filter="data")
        if not (unpacking / folder).is_dir():
            raise SepnetError(f"{archive} has no folder {folder}: it is another archive than expected")
        target.parent.mkdir(parents=True, exist_ok=True)
        for file in (unpacking / folder).parent.iterdir():  # the licence, the list of speakers
            if file.is_file() and not (target.parent / file.name).exists():
                file.replace(target.parent / file.name)
        (unpacking / folder).replace(target)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise SepnetError(
            f"can't unpack {archive} into {root}: {error}. Make room if the disk is full; else delete the "
            "archive and run again"
        ) from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
    return target


def _tidy(archive: Path, root: Path, keep_archive: bool) -> None:
    """Remove what is not needed any more, also what a run left that was killed once its folder was there."""
    shutil.rmtree(_unpacking(archive, root), ignore_errors=True)
    if not keep_archive:
        archive.unlink(missing_ok=True)


def _unpacking(archive: Path, root: Path) -> Path:
    return root / f".{archive.name}.unpacking"


def _download(url: str, target: Path, part: Path, progress: bool) -> None:
    """Download into ``part``; try again until MAX_FAILURES attempts in a row bring no new bytes."""
    failures = 0
    while True:
        before = _size(part)
        try:
            _continue(url, part, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.exists():  # no bytes are left, so the checksum decides
                return
            raise SepnetError(
                f"{url} answers {error.code} ({error.reason}): look for the file elsewhere, put it at "
                f"{target}, and run again"
            ) from error
        except (urllib.error.URLError, HTTPException, ConnectionError) as error:
            failures = failures + 1 if _size(part) == before else 0
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if failures == MAX_FAILURES or isinstance(error, urllib.error.URLError):
                resumes = f" (it continues after {_size(part) / 1e6:.1f} MB)" if _size(part) else ""
                raise SepnetError(
                    f"can't download {url} ({reason}): connect to the network and run again{resumes}, or "
                    f"download it elsewhere, put it at {target}, and run again"
                ) from error
            log.warning("%s was interrupted after %.1f MB (%s); trying again", url, _size(part) / 1e6, reason)
            time.sleep(0.1 * failures)


def _continue(url: str, part: Path, progress: bool) -> None:
    """Request the missing bytes of ``part`` once. Raises ConnectionError if the answer is too short."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        resumed = response.status == 206 and _first_byte(response) == start
        start = start if resumed else 0  # a server without ranges sends the whole file
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as stream,
            tqdm(
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                disable=None if progress else True,
            ) as bar,
        ):
            for chunk in _chunks(response):
                stream.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) < total:
        raise ConnectionError(f"only {_size(part)} of {total} bytes arrived")


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The bytes of the response. Every error of the connection becomes a ConnectionError."""
    try:
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def _first_byte(response: HTTPResponse) -> int:
    """The position of the first byte: 200 for ``Content-Range: bytes 200-999/1000``; -1 if unknown."""
    span = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return int(span) if span.isdigit() else -1


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
