"""What became of one input: refused in one sentence, done, or one of four faults."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from benchmarks.fuzzing.process import Ended
from sepnet.data.cache import STAMP

TEMPORARY = re.compile(r"\.(part|old|partial|unpacking|sepnet|incomplete|lock)$")
MAX_SENTENCE = 1500  # characters
CACHES = ("torchinductor_", "matplotlib-")  # which other programs keep in the temporary folder on purpose
TRACEBACK = "Traceback (most recent call last)"
PARTLY_REFUSED = re.compile(r"^error: \d+ of \d+ recordings could not be separated:$", re.MULTILINE)
KEPT = "nothing is separated again for that"  # a refusal that keeps what was computed, and says so
Tree = Mapping[str, str]
"""The content of a folder: a digest of each file, link and folder by its relative path."""


class Verdict(Enum):
    """What became of an input."""

    REFUSED = "refused in a sentence"
    DONE = "done"
    STOPPED = "stopped by Ctrl-C"
    UNEXPECTED = "traceback or other error"
    HANG = "hang"
    LEFT = "files left"
    NOTHING = "nothing done"


FAULTS = (Verdict.UNEXPECTED, Verdict.HANG, Verdict.LEFT, Verdict.NOTHING)


@dataclass(frozen=True)
class Outcome:
    """The verdict on one input.

    Attributes:
        verdict: What became of it.
        input: The input, to be recognised and repeated.
        detail: Why it is a fault, or how it was refused.
    """

    verdict: Verdict
    input: str
    detail: str = ""


@dataclass(frozen=True)
class Command:
    """A command line, and how to tell that it has done something.

    Attributes:
        words: What follows ``sepnet``.
        did: Gets what it printed and the names of the files that it made or changed.
        stdin: What standard input holds.
        ready: What it prints when it serves, so that only Ctrl-C ends it.
        may_be_stopped: Whether an input can be so large that only Ctrl-C ends it in time.
    """

    words: tuple[str, ...]
    did: Callable[[str, frozenset[str]], bool]
    stdin: bytes = b""
    ready: bytes | None = None
    may_be_stopped: bool = False
    label: str = field(default="")


def tree(folder: Path) -> Tree:
    """The content of a folder."""
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            key = str(path.relative_to(folder)).encode(errors="surrogateescape").decode(errors="replace")
            if path.is_symlink():
                found[key] = f"-> {path.readlink()!r}"
            elif path.is_file():
                found[key] = hashlib.sha1(path.read_bytes()).hexdigest()
            else:
                found[key] = "folder" if path.is_dir() else "special"
    return found


def judge(command: Command, ended: Ended, before: Tree, after: Tree, *, leavings: Tree) -> Outcome:
    """Decide what became of a command.

    Args:
        command: The command.
        ended: How it ended.
        before: The folder before.
        after: The folder after.
        leavings: What it left in its temporary folder.
    """
    leavings = {name: content for name, content in leavings.items() if not name.startswith(CACHES)}

    def outcome(verdict: Verdict, detail: str = "") -> Outcome:
        return Outcome(verdict, command.label, " ".join(detail.split())[-MAX_SENTENCE:])

    out, err = ended.out.decode(errors="replace"), ended.err
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    temporary = {name for name in changed & set(after) if TEMPORARY.search(name.rpartition("/")[2])}
    if ended.timed_out or (ended.stopped and not (command.may_be_stopped or command.ready)):
        return outcome(Verdict.HANG, f"{ended.seconds:.0f} s; {err[-600:]}")
    if TRACEBACK in err or "Error executing job" in err or ended.status not in (0, 1, 2, 130):
        excerpt = err[: MAX_SENTENCE - 100] if ended.status < 0 else err[-900:]
        return outcome(Verdict.UNEXPECTED, f"status {ended.status}: {excerpt}")
    if leavings:
        return outcome(
            Verdict.LEFT, f"status {ended.status}, in the temporary folder: {sorted(leavings)[:5]}"
        )
    if ended.stopped and ended.status in (0, 130):
        return outcome(Verdict.DONE if command.ready and ended.status == 0 else Verdict.STOPPED)
    if ended.status in (1, 2):
        partly = ended.status == 1 and PARTLY_REFUSED.search(err)
        lines = [line for line in err.splitlines() if line.strip()]
        sentences = [line for line in lines if line.startswith("error: ")]
        if not partly and (ended.status == 1 or len(sentences) != 1 or lines[-1] != sentences[0]):
            return outcome(Verdict.UNEXPECTED, f"status {ended.status} without one sentence: {err[-900:]}")
        if KEPT in err:
            temporary = {name for name in temporary if ".sepnet" not in name}
            changed = {name for name in changed if ".sepnet" not in name}
        # Index and cache of a corpus are complete, and stay, where no list can be drawn and nothing learnt.
        complete = {name.rpartition("/")[0] for name in after if name.endswith(("/index.json", f"/{STAMP}"))}
        complete |= {folder.rpartition("/")[0] for folder in complete if f"{folder}/{STAMP}" in after}
        changed = {name for name in changed if complete.isdisjoint({name, name.rpartition("/")[0]})}
        if temporary or (changed and not partly):
            return outcome(Verdict.LEFT, f"{sorted(temporary or changed)[:5]} after {lines[-1]}")
        return outcome(Verdict.REFUSED, lines[-1])
    if temporary:
        return outcome(Verdict.LEFT, str(sorted(temporary)[:5]))
    if not command.did(out + err, frozenset(changed)):
        return outcome(
            Verdict.NOTHING, f"printed {out[-300:]!r} {err[-300:]!r}, changed {sorted(changed)[:5]}"
        )
    return outcome(Verdict.DONE)
