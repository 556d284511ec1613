"""The functions and classes of the library, called with odd tensors and arguments."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants
from torch import Tensor

import sepnet
from benchmarks.fuzzing.commands import Workshop
from benchmarks.fuzzing.process import Process
from benchmarks.fuzzing.trial import Outcome, Verdict, tree
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.types import Mixture, Query, Separation, SepnetError

CPU_SECONDS = 15.0
MODELS = ("hpss", "nmf", "nmf_online", "repet", "identity", "fastica", "auxiva", "ilrma", "energy",
          "energy_reference", "ibm",
          "irm", "wiener", "psm", "iam", "crm", "pit-2spk-8k", "pit-causal-2spk-8k", "deep-clustering-8k",
          "query-mask-esc10",
          "conv-autoencoder-esc10")  # fmt: skip
NUMBERS: tuple[Any, ...] = (None, 0, 1, 2, 3, 5, 64, 65, -1, 2.0, 2.5, True, "auto", "2", "word",
                            float("nan"),
           float("inf"), 10**30, 1e300,
           np.int64(2), np.float32(2), np.array(2), torch.tensor(2), [2], (), {}, b"2", 1 + 0j,
           object())  # fmt: skip
RATES = (8000, 8000, 8000, 16000, 44100, 11025, 7999, 1000, 1, 7, 0, -8000, 8000.0, 8000.5, "8000", None,
         True, float("nan"),
         10**9, 10**30, np.int32(8000), np.float64(8000), torch.tensor(8000), [8000])  # fmt: skip
ODD: tuple[Any, ...] = (None, 0, 1, -1, 1.5, "x", "", b"x", [], (), {}, [1.0, 2.0], [[0.0] * 8], object(),
                        np.nan,
       Path("nothing.wav"), print,
       lambda: None, "mix.wav", 10**30, {"a": 1}, True, type)  # fmt: skip
LENGTHS = (0, 1, 2, 3, 17, 255, 2500, 3001, 5000, 6000, 256, 257, 400, 1000, 1999, 4000, 8001)


def run(workshop: Workshop, number: int, rng: np.random.Generator) -> Outcome:
    """Make one call with odd arguments."""
    calls = (
        _separate,
        _separate,
        _pipeline,
        _separator,
        _separator,
        _load,
        _mixture,
        _settings,
        _find,
        _stream,
    )
    call, label = calls[int(rng.integers(len(calls)))](workshop, rng)
    with workshop.folder(f"library-{number}") as work:
        result = work.parent / "result"
        ended = Process(lambda: result.write_bytes(pickle.dumps(_told(call))), work).finish(CPU_SECONDS)
        leavings = {**tree(work), **tree(work.parent / "tmp")}
        if ended.timed_out or ended.stopped:
            return Outcome(Verdict.HANG, label, f"{ended.seconds:.0f} s {ended.err[-500:]}")
        if ended.status != 0:
            return Outcome(Verdict.UNEXPECTED, label, f"status {ended.status}: {ended.err[-800:]}")
        verdict, detail = pickle.loads(result.read_bytes())
        if leavings:
            return Outcome(Verdict.LEFT, label, str(sorted(leavings)[:5]))
        return Outcome(verdict, label, detail)


def _told(call: Callable[[], str]) -> tuple[Verdict, str]:
    constants.HF_HUB_OFFLINE = True
    try:
        wrong = call()
    except SepnetError as error:
        sentence = str(error)
        is_sentence = sentence and "\n" not in sentence and len(sentence) < 1000
        return (Verdict.REFUSED if is_sentence else Verdict.UNEXPECTED), sentence
    return (Verdict.NOTHING, wrong) if wrong else (Verdict.DONE, "")


def _wrong(separation: object, n_samples: int) -> str:
    """What is wrong with a result; empty: nothing is."""
    if not isinstance(separation, Separation):
        return f"it is a {type(separation).__name__}"
    sources = separation.sources
    if (
        sources.ndim != 2
        or len(sources) == 0
        or sources.shape[1] != n_samples
        or sources.dtype != torch.float32
    ):
        return f"the sources are {tuple(sources.shape)} in {sources.dtype} of {n_samples} samples"
    return "" if bool(torch.isfinite(sources).all()) else "the sources are not finite"


def _signal(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """(channel, time) or (time,) in float32, and what it is."""
    length, channels = (
        int(rng.choice(LENGTHS)),
        int(rng.choice((0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 9), p=[0.03, *[0.097] * 10])),
    )
    data = 0.1 * rng.standard_normal((channels, length)).astype(np.float32)
    kind = int(rng.integers(10))
    if kind == 0:
        data[...] = 0
    elif kind == 1:
        data *= np.float32(rng.choice((1e-38, 1e-20, 1e20, 1e37)))
    elif kind == 2 and data.size:
        data[..., int(rng.integers(length))] = rng.choice((np.nan, np.inf, 3e38))
    elif kind == 3:
        data[...] = 0.5
    if channels == 1 and rng.random() < 0.5:
        return data[0], f"{length} samples, kind {kind}"
    return data, f"{channels} x {length} samples, kind {kind}"


def _audio(rng: np.random.Generator) -> tuple[Any, str]:
    """What may be taken for a recording: an array or a tensor of any kind, or nothing of that sort."""
    if rng.random() < 0.03:
        odd = ODD[int(rng.integers(len(ODD)))]
        return odd, repr(odd)
    data, what = _signal(rng)
    tensor = torch.from_numpy(data.copy())
    changes: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("array", lambda: data),
        ("float64", lambda: data.astype(np.float64)),
        ("float16", lambda: data.astype(np.float16)),
        ("int16", lambda: (data * 1000).astype(np.int16)),
        ("bool", lambda: data > 0),
        ("complex", lambda: data.astype(np.complex64)),
        ("big-endian", lambda: data.astype(">f4")),
        ("object", lambda: data.astype(object)),
        ("longdouble", lambda: data.astype(np.longdouble)),
        ("text", lambda: data.astype(str)),
        ("backwards", lambda: data[..., ::-1]),
        ("fortran", lambda: np.asfortranarray(data)),
        ("transposed", lambda: data.T),
        ("masked", lambda: np.ma.masked_array(data, data > 0.1)),
        ("matrix of three axes", lambda: data[None]),
        ("tensor", lambda: tensor),
        ("tensor with gradient", lambda: tensor.clone().requires_grad_()),
        ("bfloat16", lambda: tensor.bfloat16()),
        ("double tensor", lambda: tensor.double()),
        ("int tensor", lambda: tensor.int()),
        ("complex tensor", lambda: tensor.to(torch.complex64)),
        ("sparse", lambda: tensor.to_sparse()),
        ("meta", lambda: tensor.to("meta")),
        ("strided", lambda: tensor.repeat_interleave(2, -1)[..., ::2]),
        ("expanded", lambda: tensor[..., :1].expand(*tensor.shape[:-1], 500)),
        ("scalar", lambda: tensor.sum()),
        ("four axes", lambda: tensor[None, None]),
        ("conjugate", lambda: torch.view_as_real(tensor.to(torch.complex64).conj())[..., 0]),
        ("quantized", lambda: torch.quantize_per_tensor(tensor, 0.01, 0, torch.qint8)),
        ("nested", lambda: torch.nested.nested_tensor([tensor.reshape(-1)])),
        ("parameter", lambda: torch.nn.Parameter(tensor)),
        ("list", lambda: data.tolist()),
    )
    name, change = changes[
        int(rng.integers(len(changes))) if rng.random() < 0.25 else int(rng.choice((0, 15)))
    ]
    with np.errstate(all="ignore"), contextlib.suppress(RuntimeError, ValueError):  # of an empty array, say
        return change(), f"{name}, {what}"
    return data, what


def _choice(rng: np.random.Generator, values: tuple[Any, ...], usual: Any, share: float = 0.1) -> Any:
    return values[int(rng.integers(len(values)))] if rng.random() < share else usual


def _query(rng: np.random.Generator) -> Any:
    kind = rng.random()
    if kind < 0.75:
        return None
    if kind < 0.8:
        return ODD[int(rng.integers(len(ODD)))]
    return (_audio(rng)[0], _choice(rng, RATES, 8000))


def _n_samples(audio: Any) -> int:
    shape: tuple[int, ...] = () if getattr(audio, "is_nested", False) else getattr(audio, "shape", ())
    return int(shape[-1]) if len(shape) else -1


def _separate(workshop: Workshop, rng: np.random.Generator) -> tuple[Callable[[], str], str]:
    audio, what = _audio(rng)
    rate = _choice(rng, RATES, 8000)
    model = _choice(
        rng,
        (*ODD, str(workshop.run), "nothing", "owner/name", Pipeline, "runs"),
        str(rng.choice(MODELS)),
        0.15,
    )
    n_sources = _choice(rng, NUMBERS, 2 if rng.random() < 0.5 else None)
    query = _query(rng)
    flags = {name: _choice(rng, (None, 0, 1, "yes", 2.0, [], "false"), bool(rng.integers(2)), 0.1)
             for name in ("consistent", "full_band")}  # fmt: skip
    label = f"separate({what}, {rate!r}, {model!r}, {n_sources!r}, query={_shown(query)}, {flags})"

    def call() -> str:
        return _wrong(sepnet.separate(audio, rate, model, n_sources, query, **flags), _n_samples(audio))

    return call, label


def _shown(query: Any) -> str:
    return _shape(query[0]) if isinstance(query, tuple) and len(query) == 2 else f"{query!r:.60}"


@cache
def _loaded(name: str) -> Any:
    return sepnet.load(name)


def _make_mixture(rng: np.random.Generator) -> tuple[Callable[[], Mixture], str]:
    """A mixture that is often one, with hints that often fit."""
    data, what = _signal(rng)
    usual = torch.from_numpy(np.atleast_2d(data))
    audio, told = (usual, what) if rng.random() < 0.9 else _audio(rng)
    rate = _choice(rng, RATES, 8000, 0.15)
    n_sources = _choice(rng, NUMBERS, 2, 0.2)
    length = usual.shape[-1]
    references = _choice(rng, (*ODD, torch.zeros(2, length + 1), torch.zeros(length), torch.zeros(2, 2,
                                                                                                  length),
                               torch.full((2, length), torch.nan), torch.zeros(0, length), torch.zeros(2,
                                                                                                       length).int()),
                         0.1 * torch.randn(2, length, generator=torch.Generator().manual_seed(0)),
                         0.08)  # fmt: skip
    example = (
        _audio(rng)[0]
        if rng.random() < 0.15
        else torch.randn(8000, generator=torch.Generator().manual_seed(1))
    )
    example_rate = _choice(rng, RATES, 8000, 0.2)
    odd_queries = _choice(rng, ODD, False, 0.1)
    label = (
        f"Mixture({told}, {rate!r}, n_sources={n_sources!r}, references={_shape(references)}, "
        f"query={_shape(example)} at {example_rate!r}, {odd_queries!r})"
    )

    def make() -> Mixture:
        queries: Any = (Query(example, example_rate),) if odd_queries is False else odd_queries
        return Mixture(audio, rate, n_sources=n_sources, queries=queries, references=references)

    return make, label


def _shape(value: Any) -> str:
    if getattr(value, "is_nested", False):
        return "nested"
    if isinstance(value, Tensor | np.ndarray):
        return f"{tuple(value.shape)} {value.dtype}"
    return f"{value!r:.60}"


def _separator(workshop: Workshop, rng: np.random.Generator) -> tuple[Callable[[], str], str]:
    name = str(rng.choice(MODELS))
    make, label = _make_mixture(rng)

    def call() -> str:
        mixture = make()
        before = mixture.audio.clone()
        separation = _loaded(name).separate(mixture)
        if not torch.equal(before, mixture.audio):
            return "the mixture has changed"
        return _wrong(separation, mixture.audio.shape[-1])

    return call, f"{name}.separate({label})"


def _random_settings(rng: np.random.Generator) -> dict[str, Any]:
    values = {
        "channels": ("all", "each", "mean", 0, 1, 7, -1, "0", None, "x", [0]),
        "chunk_seconds": (45.0, 0.1, 0.01, 1, 0, -1, None, "1", float("nan"), float("inf"), 1e-9, 1e6),
        "overlap_seconds": (3.0, 0.01, 0, -1, None, "x", float("nan"), 1e-9, 22.4),
        "full_band": (True, False, None, 1, "x"),
        "consistent": (True, False, 0, "no"),
        "n_sources": NUMBERS,
    }
    names = [str(name) for name in rng.choice(list(values), int(rng.integers(0, 4)), replace=False)]
    return {name: values[name][int(rng.integers(len(values[name])))] for name in names}


def _pipeline(workshop: Workshop, rng: np.random.Generator) -> tuple[Callable[[], str], str]:
    name, settings = str(rng.choice(MODELS)), _random_settings(rng)
    odd = _choice(rng, ODD, False, 0.05)
    make, label = _make_mixture(rng)

    def call() -> str:
        pipeline = Pipeline(_loaded(name) if odd is False else odd, PipelineSettings(**settings))
        mixture = make()
        return _wrong(pipeline.separate(mixture), mixture.audio.shape[-1])

    return call, f"Pipeline({name if odd is False else odd!r}, {settings}).separate({label})"


def _load(workshop: Workshop, rng: np.random.Generator) -> tuple[Callable[[], str], str]:
    names: tuple[Any, ...] = (*ODD, *MODELS, "", " ", ".", "/", "..", "~", "owner/name", "a/b/c",
                              "x" * 5000, "nul\0l",
             "\udcff", "é", "pit", "last.ckpt",
             str(workshop.run), str(workshop.corpus), str(workshop.run / "config.yaml"),
             "ast-tagger-esc10", "/dev/null", "ast_dgmo")  # fmt: skip
    name: Any = names[int(rng.integers(len(names)))]
    settings = _choice(rng, (*ODD, {"n_iterations": -1}, {"seed": None}, {"x": {"y": 1}}, {1: 2},
                             {"_target_": "os.system"},
                             {"": ""}, {"kernel": [1, 2, 3]}), None, 0.4)  # fmt: skip

    def call() -> str:
        loaded = sepnet.load(name) if settings is None else sepnet.load(name, settings)
        return "" if hasattr(loaded, "separate") else f"it is a {type(loaded).__name__}"

    return call, f"load({name!r:.80}, {settings!r})"


def _mixture(workshop: Workshop, rng: np.random.Generator) -> tuple[Callable[[], str], str]:
    make, label = _make_mixture(rng)

    def call() -> str:
        make()
        return ""

    return call, label


def _settings(workshop: Workshop, rng: np.random.Generator) -> tuple[Callable[[], str], str]:
    settings = _random_settings(rng) | _random_settings(rng)

    def call() -> str:
        PipelineSettings(**settings)
        return ""

    return call, f"PipelineSettings({settings})"


def _find(workshop: Workshop, rng: np.random.Generator) -> tuple[Callable[[], str], str]:
    audio, what = _audio(rng)
    rate, query = _choice(rng, RATES, 8000), _query(rng) or (0.1 * np.ones(8000, np.float32), 8000)
    model = _choice(rng, (*ODD, *MODELS), "ast_dgmo", 0.5)

    def call() -> str:
        event = sepnet.find(audio, rate, query, model)
        return (
            ""
            if event.target.shape[-1] == _n_samples(audio)
            else f"the target is {tuple(event.target.shape)}"
        )

    return call, f"find({what}, {rate!r}, {_shown(query)}, {model!r})"


def _stream(workshop: Workshop, rng: np.random.Generator) -> tuple[Callable[[], str], str]:
    from sepnet.inference.stream import StreamingSeparator

    name = str(rng.choice(("pit-causal-2spk-8k", "nmf_online", "energy_live", *MODELS)))
    rate, n_sources = _choice(rng, RATES, None), _choice(rng, NUMBERS, None)
    pieces = [
        _audio(rng) if rng.random() < 0.5 else (_signal(rng)[0].reshape(-1), "samples")
        for _ in range(int(rng.integers(0, 4)))
    ]
    query = _choice(rng, (*ODD, [(np.ones(4000, np.float32), 8000)]), (), 0.3)

    def call() -> str:
        stream = StreamingSeparator(_loaded(name), sample_rate=rate, n_sources=n_sources, queries=query)
        out = [stream.push(piece) for piece, _ in pieces] + [stream.finish()]
        n_samples = sum(_n_samples(piece) for piece, _ in pieces)
        total = sum(part.shape[-1] for part in out) - stream.latency_samples
        return "" if total == n_samples else f"{total} samples came out of {n_samples}"

    return (
        call,
        f"StreamingSeparator({name}, {rate!r}, {n_sources!r}, {query!r:.50}), {[what for _, what in pieces]}",
    )
