"""``sepnet separate live=true``: live separation over a pipe or the sound card."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sepnet import artifact
from sepnet.cli.separate_settings import SeparateSettings
from sepnet.data import audio
from sepnet.inference.live import Pcm, print_message, run_pipe, run_sound_card
from sepnet.inference.stream import StreamingSeparator
from sepnet.types import SepnetError

DEFAULT_MODEL = "pit-causal-2spk-8k"


def live(settings: SeparateSettings, files: Sequence[str | Path] = ()) -> None:
    """Separate until the input ends.

    Args:
        settings: The settings of conf/separate.yaml.
        files: Files named on the command line, which live separation refuses.

    Raises:
        SepnetError: A setting can't be used.
    """
    if files or settings.files:
        raise SepnetError("live=true separates standard input: leave the files out, or live=true")
    if settings.residual:
        raise SepnetError("residual=true is for files, and live=true writes none: leave residual=true out")
    if settings.live is True and (sys.stdin is None or sys.__stdout__ is None):
        raise SepnetError(
            "live=true reads sound from standard input and writes it to standard output: open both"
        )
    n_sources = settings.pipeline.n_sources
    if n_sources == "auto":
        raise SepnetError("n_sources is auto, but a live separator can't count: give their number")
    pcm, name = settings.pcm, settings.model or DEFAULT_MODEL
    queries = [audio.read(file) for file in settings.queries]
    stream = StreamingSeparator(
        artifact.load(name, settings.set),
        sample_rate=pcm.rate,
        n_sources=n_sources,
        queries=[(sound.mean(axis=0), rate) for sound, rate in queries],
    )
    labels = stream.labels or tuple(f"s{k + 1}" for k in range(stream.n_sources))
    if pcm.source is not None and pcm.source not in labels:
        raise SepnetError(f"pcm.source is {pcm.source}: give one of {', '.join(labels)}")
    start = 0 if pcm.source is None else labels.index(pcm.source)
    chosen = slice(None) if pcm.source is None else slice(start, start + 1)
    print_message(
        f"live: {name}, {stream.sample_rate} Hz, output {', '.join(labels[chosen])}, "
        f"latency {stream.latency_ms:g} ms; Ctrl-C ends it"
    )
    if settings.live == "device":
        run_sound_card(stream, pcm.channels, chosen)
    else:
        run_pipe(stream, Pcm(pcm.format, pcm.channels), chosen)
