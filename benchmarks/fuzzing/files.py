"""Files that are odd, damaged or not what they seem, given to the commands that read them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.fuzzing.commands import Workshop, run_command
from benchmarks.fuzzing.settings import made, printed
from benchmarks.fuzzing.sounds import SUFFIXES, damaged, sound
from benchmarks.fuzzing.trial import Command, Outcome

CPU_SECONDS = 90.0  # 17 channels of 768 kHz take NMF 45 s
FRESH_SHARE = 0.01
MODELS = ("hpss", "hpss", "nmf n_sources=2", "repet", "identity", "run", "pit-2spk-8k", "pit-causal-2spk-8k",
          "fastica n_sources=2 channels=all", "energy n_sources=2",
          "deep-clustering-8k n_sources=auto")  # fmt: skip
OPTIONS = ("format=flac", "format=ogg", "format=aiff", "subtype=PCM_16", "gain=auto", "gain=2",
           "report=true", "strict=true",
           "channels=mean", "channels=all", "channels=0", "channels=1", "consistent=false",
           "full_band=false", "track=1",
           "chunk_seconds=0.2 overlap_seconds=0.05", "overwrite=true", "out=o", "out=o/p/q")  # fmt: skip
STEMS = ("mix", "a b", "josé", "日本", "a=b", "x[1]", "it's", "-dash", "~tilde", "$HOME", "#hash", "a,b",
         "{a}", "..dots", "x*",
         "n" * 200, "n" * 245, "é" * 120, "new\nline", "CON", ".hidden", "a\\b", "%d", '"', "(x)", "&",
         "a\udcffb")  # fmt: skip
Words = tuple[str, ...]


def run(workshop: Workshop, number: int, rng: np.random.Generator) -> Outcome:
    """Give one file, or folder, to a command."""
    kinds = (_one_sound, _folder, _odd_path, _standard_input, _corpus, _artefact, _table)
    kind = kinds[int(rng.choice(len(kinds), p=(0.4, 0.14, 0.1, 0.08, 0.08, 0.14, 0.06)))]
    with workshop.folder(f"files-{number}") as work:
        command = kind(workshop, work, rng)
        return run_command(command, work, CPU_SECONDS, fresh=rng.random() < FRESH_SHARE)


def _command(
    words: list[str], did: Callable[[str, frozenset[str]], bool], what: str, stdin: bytes = b""
) -> Command:
    label = f"sepnet {' '.join(words)} ({what})"
    return Command(tuple(words), did, stdin, label=label.encode(errors="replace").decode())


def _name(rng: np.random.Generator, suffix: str) -> str:
    stem = "mix" if rng.random() < 0.7 else STEMS[int(rng.integers(len(STEMS)))]
    return stem + (suffix if rng.random() < 0.8 else SUFFIXES[int(rng.integers(len(SUFFIXES)))])


def _write_sound(rng: np.random.Generator, folder: Path) -> Path:
    """A random sound file, damaged or not, under a random name."""
    data, suffix = sound(rng)
    path = folder / _name(rng, suffix)
    path.write_bytes(damaged(rng, data) if rng.random() < 0.7 else data)
    return path


def _separation(rng: np.random.Generator, workshop: Workshop, words: list[str]) -> list[str]:
    """The words of a separation with a random model and random options."""
    model = MODELS[int(rng.integers(len(MODELS)))].replace("run", str(workshop.run))
    options = [OPTIONS[int(rng.integers(len(OPTIONS)))] for _ in range(int(rng.choice((0, 0, 1, 2))))]
    return [
        "separate",
        *words,
        *f"model={model}".split(),
        *(word for option in options for word in option.split()),
    ]


def _separated(text: str, changed: frozenset[str]) -> bool:
    return any(name.endswith(("_separation.json", "event.json")) for name in changed)


def _one_sound(workshop: Workshop, work: Path, rng: np.random.Generator) -> Command:
    path = _write_sound(rng, work)
    what = f"{path.stat().st_size} bytes"
    name = f"./{path.name}" if path.name.startswith("-") else path.name
    if rng.random() < 0.12:
        mixture = workshop.corpus / "test" / "test-0" / "test0a.wav"
        shutil.copy(mixture, work / "whole.wav")
        model = str(rng.choice(("energy_reference", "query-mask-esc10", "ast_dgmo")))
        return _command(
            ["separate", "whole.wav", f"model={model}", f"query={name}", "out=o"],
            _separated,
            f"query, {what}",
        )
    return _command(_separation(rng, workshop, [name]), _separated, what)


def _folder(workshop: Workshop, work: Path, rng: np.random.Generator) -> Command:
    """A folder of several things."""
    folder = work / "in"
    folder.mkdir()
    for _ in range(int(rng.integers(0, 4))):
        place = folder / str(rng.choice((".", "deep/er", "x.wav")))
        place.mkdir(parents=True, exist_ok=True)
        _write_sound(rng, place)
    for _ in range(int(rng.integers(0, 3))):
        _odd_entry(rng, folder, workshop)
    words = ["in" if rng.random() < 0.7 else str(rng.choice(("in/*", "in/**/*.wav", "in/?*", "in/[a-z]*")))]
    return _command(
        _separation(rng, workshop, words),
        _separated,
        f"a folder of {sorted(path.name for path in folder.iterdir())}",
    )


def _odd_entry(rng: np.random.Generator, folder: Path, workshop: Workshop) -> Path:
    """A link, a pipe, an empty folder, or a file that is no sound."""
    path = folder / f"odd{rng.integers(100)}{SUFFIXES[int(rng.integers(len(SUFFIXES)))]}"
    kind = rng.integers(9)
    if path.exists() or path.is_symlink():
        return path
    if kind == 0:
        path.symlink_to("nowhere.wav")
    elif kind == 1:
        path.symlink_to(path.name)
    elif kind == 2:
        path.symlink_to(folder.absolute())
    elif kind == 3:
        elsewhere = folder.absolute().parent / "elsewhere"
        shutil.copytree(workshop.corpus / "dev", elsewhere, dirs_exist_ok=True)
        path.symlink_to(elsewhere)
    elif kind == 4:
        os.mkfifo(path)
    elif kind == 5:
        path.mkdir()
    elif kind == 6:
        path.touch()
    elif kind == 7:
        path.write_text("no sound\n" * int(rng.integers(1, 50)))
    else:
        path.symlink_to(workshop.corpus / "test" / "test-0" / "test0a.wav")
    return path


def _odd_path(workshop: Workshop, work: Path, rng: np.random.Generator) -> Command:
    """One word that names no plain file."""
    names = ("/dev/null", "/dev/zero", "/proc/self/mem", "/proc/self/maps", "", " ", "nothing.wav",
             "a" * 300 + ".wav", "/", ".",
             "x\n.wav", "[", "*", "**", "files=", "files=[]", "files=null", "~", "~/none.wav", "in/../in",
             "/proc", "-", "--",
             "x/" * 2000, "http://127.0.0.1:9/a.wav", "file:///x.wav", "\udcff.wav", "in/", "in/mix.wav/",
             "./-x")  # fmt: skip
    (work / "in").mkdir()
    word = (
        str(_odd_entry(rng, work, workshop).name)
        if rng.random() < 0.4
        else names[int(rng.integers(len(names)))]
    )
    return _command(_separation(rng, workshop, [word]), _separated, "an odd path")


def _standard_input(workshop: Workshop, work: Path, rng: np.random.Generator) -> Command:
    data = damaged(rng, sound(rng)[0])
    if rng.random() < 0.5:
        return _command(_separation(rng, workshop, ["-"]), _separated, f"{len(data)} bytes by a pipe", data)
    rate = str(rng.choice(("null", "8000", "44100", "16000", "1000", "768000", "8001")))
    words = ["separate", "live=true", f"pcm.format={rng.choice(('s16le', 'f32le'))}", f"pcm.rate={rate}",
             f"pcm.channels={rng.choice((1, 2, 7, 1000))}",
             f"pcm.source={rng.choice(('null', 's1', 's9', 'x'))}"]  # fmt: skip
    return _command(words, printed("live: the input has ended"), f"{len(data)} bytes of PCM", data)


def _corpus(workshop: Workshop, work: Path, rng: np.random.Generator) -> Command:
    """A corpus with random files."""
    for place in ("train/a", "train/b", "dev/c", "test/d", "."):
        folder = work / "corpus" / place
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(int(rng.integers(0, 3))):
            if rng.random() < 0.75:
                shutil.copy(workshop.corpus / "test" / "test-0" / "test0a.wav", folder / _name(rng, ".wav"))
            elif rng.random() < 0.6:
                _write_sound(rng, folder)
            else:
                _odd_entry(rng, folder, workshop)
    words = ["prepare", "corpus=folder", "root=corpus", "corpus.index_dir=index"]
    if rng.random() < 0.5:
        words += ["list.split=train", "list.n_mixtures=2", "list.csv=list.csv"]
    return _command(words, printed("fingerprint"), "a corpus of odd files")


def _artefact(workshop: Workshop, work: Path, rng: np.random.Generator) -> Command:
    """A run folder with one file that is damaged or missing."""
    shutil.copytree(workshop.run, work / "run")
    shutil.copy(workshop.corpus / "test" / "test-0" / "test0a.wav", work / "mix.wav")
    files = sorted(path for path in (work / "run").rglob("*") if path.is_file() and path.suffix != ".csv")
    file = files[int(rng.integers(len(files)))]
    what = _spoil(rng, file)
    model = "run" if rng.random() < 0.8 or file.suffix != ".ckpt" else str(file.relative_to(work))
    words = [
        ["separate", "mix.wav", f"model={model}"],
        ["export", f"model={model}", "out=x.onnx"],
        ["publish", "page=run/README.md", "curves=[run]"],
        ["separate", "mix.wav", "runs=."],
    ][int(rng.choice(4, p=(0.55, 0.2, 0.1, 0.15)))]
    return _command(words, made("_separation.json", ".onnx", "README.md"), f"{file.relative_to(work)} {what}")


def _table(workshop: Workshop, work: Path, rng: np.random.Generator) -> Command:
    """The results of an evaluation with one file that is damaged or missing."""
    for name in ("a", "b"):
        shutil.copytree(workshop.results, work / name)
    (work / "page.md").write_text("<!-- a -->\n<!-- /a -->\n")
    files = sorted(path for path in (work / "a").iterdir() if path.suffix in (".csv", ".json"))
    file = files[int(rng.integers(len(files)))] if rng.random() < 0.9 else work / "page.md"
    what = _spoil(rng, file)
    words = [
        ["eval", "compare=[a/rows.csv,b/rows.csv]", "out=joined"],
        ["publish", "page=page.md", "evaluations={a: a}"],
    ][int(rng.integers(2))]
    return _command(words, made("rows.csv", "page.md"), f"{file.relative_to(work)} {what}")


def _spoil(rng: np.random.Generator, file: Path) -> str:
    """Damage a file; says how."""
    kind = rng.integers(8)
    data = file.read_bytes()
    if kind == 0:
        file.unlink()
        return "is missing"
    if kind == 1:
        file.unlink()
        file.mkdir()
        return "is a folder"
    if kind == 2:
        file.write_bytes(rng.bytes(200))
        return "is random bytes"
    if kind == 3:
        texts = (b"", b"null", b"[]", b"{}", b"5", b'"x"', b"{a: [}", b"[" * 100_000,
                 b"model: {_target_: os.system}",
                 b"model: null", b'{"model": 5}', b"\xff\xfe", b"a: &a [*a]")  # fmt: skip
        file.write_bytes(texts[int(rng.integers(len(texts)))])
        return f"is {file.read_bytes()[:30]!r}"
    if kind in (4, 5) and file.suffix in (".yaml", ".json", ".csv", ".md"):
        lines = data.splitlines(keepends=True)
        for _ in range(int(rng.integers(1, 3))):
            place = int(rng.integers(len(lines)))
            line = lines[place].rstrip(b"\n")
            key, sign, _ = line.partition(b":" if file.suffix != ".csv" else b",")
            values = (
                b" null",
                b" -1",
                b" nan",
                b" []",
                b" 1e99",
                b" word",
                b"",
                b" {a: 1}",
                b' "',
                b" 99999999999",
            )
            lines[place] = (
                key
                + sign
                + values[int(rng.integers(len(values)))]
                + (b"," if line.endswith(b",") else b"")
                + b"\n"
            )
        file.write_bytes(b"".join(lines))
        return f"has odd values ({lines[place]!r})"
    file.write_bytes(damaged(rng, data))
    return "is damaged"
