"""FastICA finds what another implementation finds, obeys its invariances, and says what it doubts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path

import pytest
import torch
from sklearn.decomposition import FastICA as ReferenceICA
from torch import Tensor

from sepnet.data.librimix import DrawnList
from sepnet.data.manifest import Manifest, Utterance
from sepnet.data.responses import MixingMatrix
from sepnet.dsp.ica import Contrast, fast_ica
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.table import Line
from sepnet.evaluation.worker import Worker
from sepnet.metrics import si_sdr
from sepnet.separators.ica import channels
from sepnet.separators.ica.channels import spectrum
from sepnet.separators.ica.fastica import FastICA
from sepnet.separators.identity import Identity
from sepnet.types import CannotSeparate, Mixture, Separation, SeparationWarning, SeparatorInfo

RATE = 8000
SPEECH = Path(__file__).parents[2] / "shared" / "audio" / "speech8k"
CONTRASTS: tuple[Contrast, ...] = ("logcosh", "exp", "cube")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sparse(n: int, time: int = 6000, seed: int = 0) -> Tensor:
    """Independent signals (n, time) with heavy tails, in float64."""
    return noise(n, time, seed=seed).double().pow(3)


def best_si_sdr(estimates: Tensor, references: Tensor) -> float:
    """The mean over the sources, in the best order, in dB."""
    return max(
        float(si_sdr(estimates[list(order)], references).mean())
        for order in permutations(range(len(references)))
    )


# The algorithm


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("deflation", [False, True], ids=["symmetric", "deflation"])
@pytest.mark.parametrize(("n_channels", "n_components"), [(3, 3), (5, 3)])
def test_it_is_the_fastica_of_scikit_learn(
    contrast: Contrast, deflation: bool, n_channels: int, n_components: int
) -> None:
    x = noise(n_channels, 4, seed=1).double() @ sparse(4) + 0.3  # one source too many: a harder problem
    start = noise(n_components, n_components, seed=2).double()
    found = fast_ica(
        x,
        n_components,
        contrast=contrast,
        alpha=1.3,
        deflation=deflation,
        start=start,
        tolerance=1e-9,
        max_iterations=500,
    )
    reference = ReferenceICA(
        n_components,
        algorithm="deflation" if deflation else "parallel",
        fun=contrast,
        fun_args={"alpha": 1.3} if contrast == "logcosh" else None,
        w_init=start.numpy(),
        tol=1e-9,
        max_iter=500,
        whiten="unit-variance",
    )
    expected = torch.from_numpy(reference.fit_transform(x.T.numpy())).T
    y = found.matrix @ (x - x.mean(dim=1, keepdim=True))
    signs = (y * expected).sum(dim=1, keepdim=True).sign()
    torch.testing.assert_close(signs * y, expected, atol=1e-6, rtol=0)
    mixing = torch.from_numpy(reference.mixing_)
    torch.testing.assert_close(found.mixing * signs.T, mixing, atol=1e-6, rtol=0)
    assert found.converged
    assert found.iterations == reference.n_iter_


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("deflation", [False, True], ids=["symmetric", "deflation"])
def test_components_are_white_and_mixing_inverts_the_matrix(contrast: Contrast, deflation: bool) -> None:
    x = noise(4, 3).double() @ sparse(3) + 5.0
    found = fast_ica(x, 3, contrast=contrast, deflation=deflation)
    centred = x - x.mean(dim=1, keepdim=True)
    y = found.matrix @ centred
    torch.testing.assert_close(y @ y.T / y.shape[1], torch.eye(3).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.mixing @ y, centred, atol=1e-6, rtol=0)  # rank 3 in 4 channels
    torch.testing.assert_close(found.matrix @ found.mixing, torch.eye(3).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_the_components_do_not_depend_on_the_mixing(contrast: Contrast) -> None:
    s = sparse(3)
    one, other = (noise(3, 3, seed=seed).double() @ s for seed in (4, 5))
    ys = [
        fast_ica(x, contrast=contrast, tolerance=1e-12).matrix @ (x - x.mean(1, keepdim=True))
        for x in (one, other)
    ]
    cosines = (ys[0] @ ys[1].T / s.shape[1]).abs()
    torch.testing.assert_close(cosines.amax(dim=1), torch.ones(3).double(), atol=1e-6, rtol=0)
    found = (ys[0] @ s.T / s.shape[1] / s.std(dim=1)).abs()
    assert found.amax(dim=1).min() > 0.99  # and that is the sources


def test_more_components_than_rank_are_refused() -> None:
    x = noise(4, 2).double() @ sparse(2)
    with pytest.raises(CannotSeparate, match="3 components cannot be estimated from 4 channels of rank 2"):
        fast_ica(x, 3)


# The separator


def mixed(references: Tensor, n_channels: int, seed: int = 0) -> Mixture:
    """Instantaneously, channel 0 being the sum of the references."""
    gains = noise(n_channels, len(references), seed=seed).double()
    gains[0] = 1.0
    audio = (gains @ references.double()).float()
    return Mixture(audio, RATE, n_sources=len(references))


@pytest.mark.parametrize("n_channels", [2, 3, 6])
@pytest.mark.parametrize("window_samples", [None, 64, 512])
def test_sources_without_overlap_are_separated(n_channels: int, window_samples: int | None) -> None:
    references = torch.zeros(2, 8000)
    references[0, :3000], references[1, 4000:] = 0.1 * noise(3000).pow(3), 0.02 * noise(4000, seed=1).pow(3)
    mixture = mixed(references, n_channels)
    estimates = FastICA(window_samples=window_samples).separate(mixture).sources
    # Their means are all that correlates them, where the samples are looked at.
    assert best_si_sdr(estimates, references) > 50
    torch.testing.assert_close(estimates.sum(dim=0), mixture.audio[0], atol=1e-6, rtol=0)


@cache
def speech(n_sources: int) -> list[Mixture]:
    """Seven mixtures of the dev split, each with as many microphones as sources."""
    files = tuple(
        Utterance(path.relative_to(SPEECH).as_posix(), path.parent.name, "dev", "", 4.0, RATE, path.stem)
        for path in sorted((SPEECH / "dev").glob("*/*.flac"))[::9]
    )
    drawn = DrawnList(
        split="dev", n_mixtures=7, n_sources=n_sources, responses=MixingMatrix(n_channels=n_sources)
    )
    return list(drawn.fixed_set(Manifest(SPEECH, files), RATE))


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"the real audio is not at {SPEECH}")
@pytest.mark.parametrize("n_sources", [2, 3])
def test_speech_is_separated_at_40_db(n_sources: int) -> None:
    scores, textbook = (
        torch.tensor(
            [best_si_sdr(separator.separate(m).sources, m.references) for m in speech(n_sources)]
        ).median()
        for separator in (FastICA(), FastICA(window_samples=None))
    )
    assert scores > 40
    assert scores > textbook


def test_the_part_outside_the_principal_components_is_shared() -> None:
    references = 0.1 * noise(2, 6000).pow(3)
    clean = mixed(references, 5)
    noisy = Mixture(clean.audio + 0.01 * noise(5, 6000, seed=3), RATE, n_sources=2)
    estimates = FastICA().separate(noisy).sources
    torch.testing.assert_close(estimates.sum(dim=0), noisy.audio[0], atol=1e-6, rtol=0)
    assert best_si_sdr(estimates, references) > 18


def test_long_recordings_use_some_of_their_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    references = 0.1 * noise(2, 60000).pow(3)
    mixture = mixed(references, 2)
    whole = FastICA().separate(mixture).sources
    monkeypatch.setattr(channels, "BLOCK_SAMPLES", 7001)  # where blocks begin makes no difference
    torch.testing.assert_close(FastICA().separate(mixture).sources, whole, atol=1e-6, rtol=0)
    for few in (FastICA(max_frames=40), FastICA(max_frames=40, window_samples=None)):
        assert best_si_sdr(few.separate(mixture).sources, references) > 20


def test_a_spectrum_is_that_of_torch() -> None:
    x = noise(2, 1000)
    for hop in (64, 100, 700):
        expected = torch.stft(
            x.double(),
            256,
            hop,
            window=torch.hann_window(256, dtype=torch.float64),
            pad_mode="constant",
            return_complex=True,
        )
        torch.testing.assert_close(spectrum(x, 256, hop), expected)


def test_too_few_channels_are_refused_with_the_number() -> None:
    with pytest.raises(CannotSeparate, match="needs 2 channels for 2 sources, but the mixture has 1"):
        FastICA().separate(Mixture(noise(1, 100), RATE, n_sources=2))
    copies = noise(1, 1000) * torch.tensor([[1.0], [0.3], [-0.7]])
    with pytest.raises(CannotSeparate, match=r"the 3 channels have rank 1 .* but 2 sources need rank 2"):
        FastICA().separate(Mixture(copies, RATE, n_sources=2))
    silent = FastICA().separate(Mixture(torch.zeros(2, 50), RATE, n_sources=2)).sources
    assert torch.equal(silent, torch.zeros(2, 50))


def test_no_convergence_is_a_warning() -> None:
    mixture = mixed(0.1 * noise(3, 4000).pow(3), 3)
    with pytest.warns(SeparationWarning, match="did not converge in 1 iterations"):
        FastICA(window_samples=None, max_iterations=1).separate(mixture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FastICA(window_samples=None).separate(mixture)


# Reservations


@dataclass(frozen=True)
class OneMixture:
    fingerprint: str = "one"

    def __len__(self) -> int:
        return 1

    def id(self, index: int) -> str:
        return "only"

    def __getitem__(self, index: int) -> Mixture:
        references = 0.1 * noise(2, 2000)
        return Mixture(references.sum(dim=0, keepdim=True), RATE, 2, None, references)


class Doubtful(Identity):
    """Has two reservations, one of them twice, and touches something deprecated."""

    info = SeparatorInfo(needs=frozenset({"n_sources"}))

    def separate(self, mixture: Mixture) -> Separation:
        for _ in range(2):
            warnings.warn(SeparationWarning("it did not\nconverge"), stacklevel=1)
        warnings.warn(SeparationWarning("the level is a guess"), stacklevel=1)
        warnings.warn(UserWarning("of no concern"), stacklevel=1)
        return super().separate(mixture)


def test_a_warning_shows_in_the_row_and_under_the_table() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        rows = Worker(Contender("doubtful", Doubtful), OneMixture(), ("si_sdr",)).score(0)
    assert [(row.status, row.reason) for row in rows] == [
        ("ok", "it did not converge; the level is a guess")
    ] * 2
    assert [str(warning.message) for warning in shown] == ["of no concern"]
    assert Line("doubtful", rows).remarks(["si_sdr"]) == [
        "2 of 2 were scored with a warning: it did not converge; the level is a guess"
    ]
