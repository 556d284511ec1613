"""What the networks see, how large they are, and that they learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sepnet.networks.blstm import BLSTM
from sepnet.networks.conv_autoencoder import ConvAutoencoder
from sepnet.networks.dprnn import DPRNN, GatedDPRNN, join, split
from sepnet.networks.dptnet import DPTNet
from sepnet.networks.locoformer import ConvSwiGLU, Locoformer, RMSGroupNorm, rotate
from sepnet.networks.mossformer2 import GatedAttention, MossFormer2, rotations
from sepnet.networks.resepformer import ReSepFormer
from sepnet.networks.sepformer import SepFormer
from sepnet.networks.sudormrf import SuDoRMRF
from sepnet.networks.tcn import TCN, CumulativeNorm
from sepnet.networks.tiger import Tiger
from sepnet.types import SepnetError

N_IN, N_OUT = 7, 10

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "blstm": lambda: BLSTM(N_IN, N_OUT, n_hidden=12, n_layers=2),
    "blstm of one layer": lambda: BLSTM(N_IN, N_OUT, n_hidden=12, n_layers=1, dropout=0.5),
    "dprnn": lambda: DPRNN(N_IN, N_OUT, n_channels=8, n_hidden=6, chunk_frames=6, n_blocks=2),
    "separable tcn": lambda: TCN(
        N_IN, N_OUT, n_channels=8, n_hidden=12, n_blocks=3, n_repeats=2, separable=True
    ),
    "dense tcn": lambda: TCN(
        N_IN, N_OUT, n_channels=8, n_hidden=12, n_blocks=3, n_repeats=2, separable=False
    ),
    "tcn with skips": lambda: TCN(
        N_IN, N_OUT, n_channels=8, n_hidden=12, n_blocks=3, n_repeats=2, separable=True, n_skip=5
    ),
    "causal tcn": lambda: TCN(
        N_IN, N_OUT, n_channels=8, n_hidden=12, n_blocks=3, n_repeats=2, separable=False, causal=True
    ),
    "causal separable tcn": lambda: TCN(
        N_IN, N_OUT, n_channels=8, n_hidden=12, n_blocks=3, n_repeats=2, separable=True, causal=True
    ),
}


@pytest.fixture(params=MAKERS, name="network")
def _network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return MAKERS[request.param]().eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_one_output_vector_a_frame(network: nn.Module, frames: int) -> None:
    output = network(noise(3, N_IN, frames))
    assert output.shape == (3, N_OUT, frames)
    assert output.isfinite().all()
    assert network(torch.zeros(1, N_IN, frames)).isfinite().all()


def test_items_of_a_batch_are_independent(network: nn.Module) -> None:
    features = noise(4, N_IN, 30)
    together = network(features)
    for item in range(4):
        torch.testing.assert_close(
            network(features[item : item + 1])[0], together[item], atol=1e-6, rtol=1e-5
        )


def test_gradients_reach_every_parameter(network: nn.Module) -> None:
    network(noise(2, N_IN, 30)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def seen_by(network: nn.Module, frame: int, frames: int) -> list[int]:
    """The input frames on which the output at ``frame`` depends."""
    features = noise(1, N_IN, frames).requires_grad_()
    network(features)[0, :, frame].sum().backward()
    assert features.grad is not None
    return features.grad[0].abs().amax(dim=0).nonzero().flatten().tolist()


def without_norms(network: nn.Module) -> nn.Module:
    """Layer norms over the whole clip let every frame see every other one, a little."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm | CumulativeNorm):
                setattr(module, name, nn.Identity())
    return network


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize(
    ("kernel", "n_blocks", "n_repeats"), [(3, 1, 1), (3, 4, 1), (3, 3, 2), (5, 2, 3), (1, 3, 2)]
)
def test_the_receptive_field_of_a_tcn(kernel: int, n_blocks: int, n_repeats: int, separable: bool) -> None:
    torch.manual_seed(0)
    tcn = TCN(
        N_IN, N_OUT, n_channels=8, n_hidden=12,
        kernel=kernel, n_blocks=n_blocks, n_repeats=n_repeats, separable=separable,
    )  # fmt: skip
    half = n_repeats * (2**n_blocks - 1) * (kernel - 1) // 2
    frames = 2 * half + 21
    middle = frames // 2
    assert len(seen_by(tcn, middle, frames)) == frames  # by the norms
    assert seen_by(without_norms(tcn), middle, frames) == list(range(middle - half, middle + half + 1))


@pytest.mark.parametrize("separable", [True, False])
def test_a_causal_tcn_depends_on_the_past_alone(separable: bool) -> None:
    torch.manual_seed(0)
    tcn = TCN(
        N_IN, N_OUT, n_channels=8, n_hidden=12, n_blocks=3, n_repeats=2, separable=separable, causal=True
    )
    for frame in (0, 7, 39):
        assert seen_by(tcn, frame, 40) == list(range(frame + 1))


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("to_causal", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_retimed_weights_compute_the_same_of_what_both_tcns_see(
    kernel: int, to_causal: bool, separable: bool
) -> None:
    """But for norms and without the taps that one of the two lacks, both give the same."""
    torch.manual_seed(0)
    before, after = (
        TCN(
            N_IN,
            N_OUT,
            n_channels=8,
            n_hidden=12,
            n_blocks=3,
            n_repeats=2,
            kernel=kernel,
            separable=separable,
            causal=causal,
        )
        for causal in (not to_causal, to_causal)
    )
    weights = before.state_dict()
    scales = {name for name, value in weights.items() if value.ndim == 1 and (value == 1).all()}
    weights |= {name: 1 + noise(*weights[name].shape) for name in scales}
    after.load_state_dict(after.retimed(weights))
    for name in scales:
        torch.testing.assert_close(after.state_dict()[name].flatten(), weights[name].flatten())
    lost = slice(kernel // 2 + 1, None) if to_causal else slice(0, kernel // 2)
    for value in weights.values():
        if value.ndim == 3 and value.shape[-1] == kernel > 1:
            value[..., lost] = 0.0
    before.load_state_dict(weights)
    x = noise(2, N_IN, 40)
    torch.testing.assert_close(without_norms(after)(x), without_norms(before)(x))


def test_retimed_weights_of_another_network_stay_as_they_are() -> None:
    causal = MAKERS["causal tcn"]()
    assert isinstance(causal, TCN)
    others = BLSTM(N_IN, N_OUT, n_hidden=12, n_layers=2).state_dict()
    others |= {
        "blocks.0.body.0.weight": noise(9, 9, 3),
        "blocks.0.body.2.weight": noise(7),
        "blocks.0.body.0.weight_g": noise(9),
    }
    for name, value in causal.retimed(others).items():
        assert torch.equal(value, others[name]), name


def test_the_cumulative_norm_is_that_of_the_paper() -> None:
    norm, x = CumulativeNorm(5), 3 + noise(2, 5, 12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    found = norm(x)
    for frame in range(12):
        past = x[:, :, : frame + 1].flatten(1)  # (batch, channel and frame)
        mean, variance = past.mean(dim=1, keepdim=True), past.var(dim=1, correction=0, keepdim=True)
        expected = (x[:, :, frame] - mean) / variance.sqrt() * norm.weight[:, 0] + norm.bias[:, 0]
        torch.testing.assert_close(found[:, :, frame], expected, atol=1e-5, rtol=1e-5)


def test_a_kernel_without_a_middle_is_refused() -> None:
    with pytest.raises(SepnetError, match=r"kernel is 4.*take 3 or 5"):
        TCN(N_IN, N_OUT, kernel=4)


@pytest.mark.parametrize("frames", [1, 3, 7, 12, 50])
@pytest.mark.parametrize("chunk", [2, 6, 20])
def test_chunks_hold_each_frame_twice_and_join_again(frames: int, chunk: int) -> None:
    x = noise(2, 3, frames)
    chunks = split(x, chunk)
    assert chunks.shape[:3] == (2, 3, chunk)
    torch.testing.assert_close(chunks.sum(dim=(2, 3)), 2 * x.sum(dim=2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(join(chunks, frames), x)


def test_a_dual_path_depends_on_the_whole_clip() -> None:
    torch.manual_seed(0)
    network = DPRNN(N_IN, N_OUT, n_channels=8, n_hidden=6, chunk_frames=4, n_blocks=1)
    for module in network.modules():
        if hasattr(module, "norm"):
            module.norm = nn.Identity()
    network.bottleneck[0] = nn.Identity()
    for frame in (0, 10, 29):
        assert seen_by(network, frame, 30) == list(range(30))


def test_an_odd_chunk_is_refused() -> None:
    with pytest.raises(SepnetError, match=r"chunk_frames is 5.*take 6"):
        DPRNN(N_IN, N_OUT, chunk_frames=5)


def test_a_blstm_depends_on_the_whole_clip() -> None:
    torch.manual_seed(0)
    blstm = BLSTM(N_IN, N_OUT, n_hidden=12, n_layers=1)
    for frame in (0, 10, 19):
        assert seen_by(blstm, frame, 20) == list(range(20))


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("hidden", "n_layers"), [(5, 1), (12, 2), (8, 4)])
def test_the_size_of_a_blstm(hidden: int, n_layers: int) -> None:
    inputs = [N_IN, *[2 * hidden] * (n_layers - 1)]
    # Of each layer two directions, of each direction four gates with two biases.
    lstm = sum(2 * 4 * hidden * (n + hidden + 2) for n in inputs)
    expected = 2 * N_IN + lstm + (2 * hidden + 1) * N_OUT
    assert parameters(BLSTM(N_IN, N_OUT, n_hidden=hidden, n_layers=n_layers)) == expected


@pytest.mark.parametrize(
    ("channels", "hidden", "kernel", "n_blocks", "n_repeats"), [(8, 12, 3, 3, 2), (5, 9, 5, 1, 4)]
)
def test_the_size_of_a_tcn(channels: int, hidden: int, kernel: int, n_blocks: int, n_repeats: int) -> None:
    sizes = {"n_channels": channels, "n_hidden": hidden, "kernel": kernel, "n_blocks": n_blocks}
    ends = 2 * N_IN + (N_IN + 1) * channels + 1 + (channels + 1) * N_OUT
    norm_and_prelu = 2 * hidden + 1
    contract = (hidden + 1) * channels
    separable = (channels + 1) * hidden + norm_and_prelu + (kernel + 1) * hidden + norm_and_prelu + contract
    dense = (kernel * channels + 1) * hidden + norm_and_prelu + contract
    blocks = n_blocks * n_repeats
    assert (
        parameters(TCN(N_IN, N_OUT, n_repeats=n_repeats, separable=True, **sizes))
        == ends + blocks * separable
    )
    assert (
        parameters(TCN(N_IN, N_OUT, n_repeats=n_repeats, separable=False, **sizes)) == ends + blocks * dense
    )


def test_it_learns(network: nn.Module) -> None:
    # Each output frame is a function of three input frames, so a network that sees but its own can't.
    features = noise(4, N_IN, 40)
    mixing = noise(3, N_OUT, N_IN, seed=1) / N_IN**0.5
    target = sum(
        torch.einsum("oi,bif->bof", mixing[k], features.roll(k - 1, dims=-1)) for k in range(3)
    ).tanh()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        loss = (network(features) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]  # without neighbours 0.37 is reached


# The conv autoencoder, whose outputs are multiples of its inputs in number


def autoencoder(n_sources: int = 2, **settings: int) -> ConvAutoencoder:
    torch.manual_seed(0)
    small = {"block_frames": 6, "n_vertical": 5, "n_horizontal": 4, "kernel_frames": 3, "n_bottleneck": 8}
    return ConvAutoencoder(N_IN, n_sources * N_IN, **{**small, **settings}).eval()


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 6, 7, 20])
def test_an_autoencoder_takes_clips_of_any_length(frames: int) -> None:
    assert autoencoder(3)(torch.randn(2, N_IN, frames)).shape == (2, 3 * N_IN, frames)


@pytest.mark.parametrize("frames", [1, 3, 4, 17])
def test_equal_blocks_are_cross_faded_into_the_same(frames: int) -> None:
    """With a decoder that repeats its block, what comes out is what went in, and twice it for the second."""
    network = autoencoder()
    network.encoder = nn.Identity()
    network.decoders = nn.ModuleList([nn.Identity(), nn.Hardtanh(-0.5, 0.5)])
    x = torch.randn(2, N_IN, frames)
    torch.testing.assert_close(network(x), torch.cat([x, x.clamp(-0.5, 0.5)], dim=1))


def test_an_autoencoder_depends_on_its_two_blocks_alone() -> None:
    """Blocks of 6 frames at a hop of 3: frame 10 is in those of the frames 6 to 11 and 9 to 14."""
    x = torch.randn(1, N_IN, 24, requires_grad=True)
    autoencoder()(x)[..., 10].sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().sum(dim=1)[0].nonzero().flatten().tolist()
    assert reached == list(range(6, 15))


@pytest.mark.parametrize("settings", [{"block_frames": 7}, {"kernel_frames": 8}])
def test_invalid_blocks_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(SepnetError, match="has to be even and at least kernel_frames="):
        autoencoder(**settings)
    with pytest.raises(SepnetError, match="n_out=15 a multiple of n_in=7"):
        ConvAutoencoder(7, 15)


# TF-Locoformer


def test_the_small_locoformer_is_of_the_size_of_the_paper() -> None:
    network = Locoformer(258, 516)
    assert 4.9e6 < sum(parameter.numel() for parameter in network.parameters()) < 5.1e6


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_a_locoformer_takes_any_length_and_clips_are_independent(frames: int) -> None:
    torch.manual_seed(0)
    network = Locoformer(10, 20, n_channels=8, n_hidden=8, n_heads=2, n_groups=2, n_blocks=2).eval()
    clips = torch.randn(3, 10, frames)
    together = network(clips)
    assert together.shape == (3, 20, frames)
    torch.testing.assert_close(together[1:2], network(clips[1:2]), atol=1e-5, rtol=1e-4)
    # Attention along both: each output bin and frame depends on every input.
    clip = torch.randn(1, 10, 4, requires_grad=True)
    network(clip)[0, 0, 0].backward()
    assert clip.grad is not None
    assert (clip.grad != 0).all()


def test_rotation_depends_on_distances_alone() -> None:
    query, key = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    products = rotate(query.expand(20, 8)) @ rotate(key.expand(20, 8)).T
    for distance in (0, 1, 7):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-5, rtol=0)
    assert products[0].std() > 0.01
    torch.testing.assert_close(
        rotate(query.expand(20, 8)).norm(dim=1), query.norm().expand(20), atol=1e-5, rtol=0
    )


def test_groups_are_at_unit_rms() -> None:
    z = RMSGroupNorm(12, 3)(5 * torch.randn(4, 6, 12))
    power = z.view(4, 6, 3, 4).square().mean(dim=-1)
    torch.testing.assert_close(power, torch.ones(4, 6, 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_the_feed_forward_network_depends_on_its_neighbours(kernel: int) -> None:
    torch.manual_seed(0)
    network = ConvSwiGLU(6, 8, kernel)
    z = torch.randn(1, 21, 6, requires_grad=True)
    network(z)[0, 10].sum().backward()
    assert z.grad is not None
    reached = z.grad[0].abs().sum(dim=1).nonzero().flatten().tolist()
    assert reached == list(range(10 - kernel + 1, 10 + kernel))  # of two convolutions


def test_channels_have_to_be_shared_evenly() -> None:
    with pytest.raises(SepnetError, match=r"n_channels=10 has to be a multiple of 2 n_heads=8"):
        Locoformer(10, 20, n_channels=10)
    with pytest.raises(SepnetError, match=r"n_out=15 a multiple of it: give it spectra"):
        Locoformer(10, 15)


# Networks that make masks of their features

N_FEATURES, N_SOURCES = 8, 3
MOSSFORMER = {
    "n_channels": 6,
    "n_layers": 2,
    "n_keys": 4,
    "n_memory": 5,
    "group_frames": 4,
    "memory_frames": 3,
}
MASK_MAKERS: dict[str, Callable[[int], nn.Module]] = {
    "gated dprnn": lambda n: GatedDPRNN(N_FEATURES, n, n_channels=6, n_hidden=5, chunk_frames=6, n_blocks=2),
    "dptnet": lambda n: DPTNet(N_FEATURES, n, n_hidden=5, n_heads=2, chunk_frames=6, n_blocks=2),
    "sepformer": lambda n: SepFormer(
        N_FEATURES, n, n_channels=6, n_hidden=7, n_heads=2, n_layers=2, chunk_frames=6, n_blocks=2
    ),
    "resepformer": lambda n: ReSepFormer(
        N_FEATURES, n, n_hidden=7, n_heads=2, n_layers=2, chunk_frames=6, n_blocks=3
    ),
    "mossformer2": lambda n: MossFormer2(N_FEATURES, n, **MOSSFORMER),
    "sudormrf": lambda n: SuDoRMRF(N_FEATURES, n, n_channels=6, n_blocks=2, improved=False),
    "sudormrf improved": lambda n: SuDoRMRF(N_FEATURES, n, n_channels=6, n_blocks=2),
}


@pytest.fixture(params=MASK_MAKERS, name="mask_network")
def _mask_network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return MASK_MAKERS[request.param](N_SOURCES * N_FEATURES).eval()


@pytest.mark.parametrize("frames", [1, 2, 6, 50])
def test_masks_are_made_of_clips_of_any_length(mask_network: nn.Module, frames: int) -> None:
    features = noise(3, N_FEATURES, frames)
    output = mask_network(features)
    assert output.shape == (3, N_SOURCES * N_FEATURES, frames)
    assert output.isfinite().all()
    for clip, expected in zip(features, output, strict=True):  # whatever else is in the batch
        torch.testing.assert_close(mask_network(clip[None])[0], expected, atol=1e-5, rtol=1e-4)


def test_masks_depend_on_the_whole_clip(mask_network: nn.Module) -> None:
    features = noise(1, N_FEATURES, 40).requires_grad_()
    mask_network(features)[0, :, 20].square().sum().backward()
    assert features.grad is not None
    assert (features.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("name", sorted(set(MASK_MAKERS) - {"resepformer"}))
def test_outputs_that_are_no_masks_are_refused(name: str) -> None:
    with pytest.raises(SepnetError, match=r"masks of its 8 features, but 20 outputs"):
        MASK_MAKERS[name](20)


def test_an_attention_sums_squared_products_in_groups_and_products_in_the_clip() -> None:
    torch.manual_seed(0)
    attention = GatedAttention(6, 4, 12, 4, 0.0).eval()
    keys, values = noise(1, 4, 10, 4), noise(1, 10, 12, seed=1)
    expected = torch.zeros(10, 12)
    for i in range(10):
        for j in range(10):
            weight = (keys[0, 1, i] @ keys[0, 3, j]) / 10
            if i // 4 == j // 4:
                weight = weight + (keys[0, 0, i] @ keys[0, 2, j] / 4).clamp_min(0) ** 2
            expected[i] += weight * values[0, j]
    torch.testing.assert_close(attention._attend(keys, values)[0], expected, atol=1e-5, rtol=1e-4)


def test_products_of_rotated_keys_depend_on_distances_alone() -> None:
    from sepnet.networks.mossformer2 import rotate as rotate_pairs

    frequencies = torch.tensor([1.0, 0.1])
    query, key = (noise(1, 1, 1, 6, seed=seed).expand(1, 1, 9, 6) for seed in (0, 1))
    turned = [rotate_pairs(each, rotations(9, frequencies))[0, 0] for each in (query, key)]
    products = turned[0] @ turned[1].T
    for offset in range(-8, 9):
        diagonal = products.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: MossFormer2(8, 16, n_keys=3), "n_keys=3 has to be even: take 4"),
        (lambda: SuDoRMRF(7, 14, improved=False), "7 features have to be even"),
        (lambda: SuDoRMRF(8, 16, n_scales=17), "n_scales is 17, but at most 16"),
        (lambda: ReSepFormer(9, 18, n_heads=3), "9 features and n_heads=3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(SepnetError, match=reason):
        make()


# TIGER


TIGER = {"n_channels": 6, "n_hidden": 5, "n_scales": 3, "n_heads": 2, "n_keys": 3, "n_repeats": 2}
TIGER_BINS = 321


def test_tiger_is_of_the_size_of_the_paper() -> None:
    network = Tiger(2 * TIGER_BINS, 4 * TIGER_BINS)
    unused = 9 * 256  # parameters of an injection of each path that counts for nothing, in the published code
    n_parameters = sum(each.numel() for each in network.parameters())
    assert n_parameters / 1e6 == pytest.approx(0.82, abs=0.01)
    assert n_parameters == 821_932 - 2 * unused
    assert network.band_sizes == [1] * 40 + [4] * 10 + [10] * 8 + [20] * 8 + [1]


@pytest.mark.parametrize("frames", [1, 2, 5, 40])
def test_the_masks_of_tiger_sum_to_one_for_any_length(frames: int) -> None:
    torch.manual_seed(0)
    network = Tiger(2 * TIGER_BINS, 6 * TIGER_BINS, **TIGER).eval()
    spectra = noise(2, 2 * TIGER_BINS, frames)
    masks = network(spectra).unflatten(1, (3, 2, TIGER_BINS))
    torch.testing.assert_close(masks[:, :, 0].sum(dim=1), torch.ones(2, TIGER_BINS, frames))
    assert masks[:, :, 1].sum(dim=1).abs().max() < 1e-5
    for clip, expected in zip(spectra, masks, strict=True):
        alone = network(clip[None]).unflatten(1, (3, 2, TIGER_BINS))[0]
        torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Tiger(2 * TIGER_BINS, 4 * TIGER_BINS, n_heads=3), "multiple of n_heads=3"),
        (lambda: Tiger(2 * TIGER_BINS, 4 * TIGER_BINS, n_scales=1), "n_scales=1 at least 2"),
        (lambda: Tiger(2 * TIGER_BINS, 4 * TIGER_BINS, sample_rate=8000), "take a longer window"),
        (lambda: Tiger(2 * TIGER_BINS, TIGER_BINS), "a multiple of it"),
    ],
)
def test_sizes_that_tiger_can_not_have_are_refused(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(SepnetError, match=reason):
        make()
