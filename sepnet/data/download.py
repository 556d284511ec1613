"""Fetch a corpus: download its archive, verify it, unpack it.

torchaudio downloads LibriSpeech too, but takes an archive that lies there for whole, begins anew after
each interruption, and leaves half a folder when unpacking stops. Here an archive has its name only after
its checksum was right, a download goes on where it stopped, and a folder has its name only when all of it
is there.
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

from sepnet.types import SepnetError

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
ATTEMPTS = 5  # in a row without a single new byte

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

    subset: a name such as "dev-clean", or several. A subset that is there is not fetched again. url: of
    a mirror. checksums: SHA-256 of each subset's archive, where the mirror has others. Returns the
    folder of the subsets. Raises SepnetError for an unknown subset, and as ``fetch`` and ``unpack`` do.
    """
    known = dict(checksums or LIBRISPEECH_SHA256)
    names = [subset] if isinstance(subset, str) else list(subset)
    if unknown := [name for name in names if name not in known]:
        raise SepnetError(f"LibriSpeech has no subset {', '.join(unknown)}: choose from {', '.join(known)}")
    root = Path(root).expanduser()
    for name in names:
        folder = root / "LibriSpeech" / name
        if folder.is_dir():
            log.info("%s is there", folder)
            continue
        archive = root / f"{name}.tar.gz"
        fetch(f"{url.rstrip('/')}/{archive.name}", archive, sha256=known[name], progress=progress)
        unpack(archive, root, f"LibriSpeech/{name}")
        if not keep_archive:
            archive.unlink()
    return root / "LibriSpeech"


def fetch(url: str, target: str | Path, *, sha256: str, progress: bool = True) -> Path:
    """Download ``url`` to ``target``, going on from ``<target>.part`` where it is there.

    A file at ``target`` (put there by hand, say) is verified and not downloaded. Raises SepnetError where
    the server can't be reached, the connection breaks for good, the disk is full, or the checksum is
    wrong; after a wrong checksum the download is removed, and in no case does ``target`` appear.
    """
    target = Path(target)
    if target.exists():
        if (found := _sha256(target)) != sha256:
            raise SepnetError(f"{target} has SHA-256 {found}, not {sha256}: delete it and run again")
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, target, part, progress)
        if (found := _sha256(part)) != sha256:
            part.unlink()
            raise SepnetError(
                f"what {url} gave has SHA-256 {found}, not {sha256}; it was deleted. Run again, and if that "
                f"doesn't help, download it elsewhere and put it at {target}"
            )
        part.replace(target)
    except OSError as error:
        free_mb = shutil.disk_usage(_existing(target)).free / 1e6
        raise SepnetError(
            f"can't write {part}: {error.strerror or error}; {free_mb:.0f} MB are free there. Make room or "
            "choose another root, then run again: the download goes on where it stopped"
        ) from error
    return target


def unpack(archive: str | Path, root: str | Path, folder: str) -> Path:
    """Unpack the part ``folder`` of a tar archive into ``root``; ``root/folder`` appears when it is whole.

    Raises SepnetError if the archive is damaged, lacks the folder, or would write outside ``root``.
    """
    archive, whole = Path(archive), Path(root) / folder
    beside = Path(root) / f".{archive.name}.unpacking"
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was interrupted
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(beside, filter="data")
        if not (beside / folder).is_dir():
            raise SepnetError(f"{archive} has no folder {folder}: it is another archive than was expected")
        whole.parent.mkdir(parents=True, exist_ok=True)
        for text in (beside / folder).parent.iterdir():  # the licence, the list of speakers
            if text.is_file() and not (whole.parent / text.name).exists():
                text.replace(whole.parent / text.name)
        (beside / folder).replace(whole)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise SepnetError(
            f"can't unpack {archive} into {root}: {error}. Make room if the disk is full; else delete the "
            "archive and run again"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return whole


def _download(url: str, target: Path, part: Path, progress: bool) -> None:
    """Fill ``part``, asking again as long as each attempt brings new bytes, or ATTEMPTS times."""
    failures = 0
    while True:
        before = _size(part)
        try:
            _continue(url, part, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.exists():  # nothing is left to send: whole, or of another file
                return
            raise SepnetError(
                f"{url} answers {error.code} ({error.reason}): look for the file elsewhere, put it at "
                f"{target}, and run again"
            ) from error
        except (urllib.error.URLError, HTTPException, ConnectionError) as error:
            failures = failures + 1 if _size(part) == before else 0
            reason = getattr(error, "reason", error)
            if failures == ATTEMPTS or isinstance(error, urllib.error.URLError):
                there = f" (it goes on after {_size(part) / 1e6:.1f} MB)" if _size(part) else ""
                raise SepnetError(
                    f"can't download {url} ({reason}): connect to the network and run again{there}, or "
                    f"download it elsewhere, put it at {target}, and run again"
                ) from error
            log.warning("%s broke off after %.1f MB (%s); going on", url, _size(part) / 1e6, reason)
            time.sleep(0.1 * failures)


def _continue(url: str, part: Path, progress: bool) -> None:
    """One request for the bytes that ``part`` lacks. Raises ConnectionError if fewer come than promised."""
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
        raise ConnectionError(f"{_size(part)} of {total} bytes came")


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """What the server sends. Any error of the connection is a ConnectionError: the disk's are others."""
    try:
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def _first_byte(response: HTTPResponse) -> int:
    """Where the bytes begin that the server sends: of ``Content-Range: bytes 200-999/1000`` the 200."""
    span = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return int(span) if span.isdigit() else -1


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
