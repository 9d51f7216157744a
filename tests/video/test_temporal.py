"""Temporal layers against slow loops, torch's own 3D convolution and attention, and closed forms of the mix."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from tests.tolerances import close
from video.frames.embedding import FrameEmbedding, frame_positions
from video.temporal import (
    AlphaMix,
    Modulation,
    SpaceTimeAttentionBlock,
    TemporalAttentionBlock,
    TemporalConvBlock,
    apply_over_frames,
    places,
    waves,
)

B, T, S, C, E = 2, 5, 6, 16, 8
PLACE = places(2, 3)
WHEN = torch.arange(T, dtype=torch.float32)


def filled(layer: nn.Module, gate: float = 0.5) -> nn.Module:
    """The layer with every alpha at 1 - |gate|."""
    with torch.no_grad():
        layer.mix.gate.fill_(gate)
    return layer


def test_frame_positions_are_the_formula():
    when = [0.0, 1.0, 7.0, 0.25, 39.0]
    positions = frame_positions(torch.tensor(when), 8)
    for row, frame in enumerate(when):
        for k in range(4):
            angle = frame / 1000 ** (k / 3)
            assert positions[row, k] == pytest.approx(math.sin(angle), abs=1e-5)
            assert positions[row, k + 4] == pytest.approx(math.cos(angle), abs=1e-5)


def test_frame_positions_of_an_odd_width_end_in_zero():
    assert frame_positions(WHEN, 5).shape == (T, 5)
    assert (frame_positions(WHEN, 5)[:, 4] == 0).all()


def test_mix_is_the_papers_equation():
    torch.manual_seed(0)
    z, f = torch.randn(2, 3), torch.randn(2, 3)
    mix = AlphaMix()
    for gate in (-0.7, 0.3):
        with torch.no_grad():
            mix.gate.fill_(gate)
        alpha, z_prime = mix.alpha, z + math.copysign(1, gate) * f
        assert alpha == pytest.approx(1 - abs(gate))
        torch.testing.assert_close(mix(z, f), alpha * z + (1 - alpha) * z_prime)


def test_new_mix_is_the_identity_with_a_live_gradient():
    z, f = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    mix = AlphaMix()
    out = mix(z, f)
    assert float(mix.alpha) == 1.0
    assert torch.equal(out, z)
    g = torch.randn(4, 5)
    out.backward(g)
    torch.testing.assert_close(mix.gate.grad, (g * f).sum())  # dL/dgate = <dL/dz, f>
    assert torch.equal(z.grad, g)


def test_alpha_stays_in_range_and_its_gradient_survives_the_clamp():
    mix = AlphaMix()
    with torch.no_grad():
        mix.gate.fill_(1.8)
    z, f = torch.randn(3), torch.randn(3)
    assert float(mix.alpha) == 0.0
    torch.testing.assert_close(mix(z, f), z + f)
    mix(z, f).sum().backward()
    torch.testing.assert_close(mix.gate.grad, f.sum())


def test_places_are_centres_of_cells_between_the_edges_row_by_row():
    assert torch.allclose(PLACE, torch.tensor([[x / 3, y / 2] for y in (-1, 1) for x in (-2, 0, 2)]))


def test_modulation_is_a_loop_over_positions():
    torch.manual_seed(6)
    modulation = Modulation(C, E)
    z, e = torch.randn(B, T, S, C), torch.randn(B, T, E)
    out = modulation(z, e, PLACE)
    for b in range(B):
        for t in range(T):
            scale, shift, tilt_x, tilt_y = modulation.linear(e[b, t]).chunk(4)
            for s, (x, y) in enumerate(PLACE):
                expected = (1 + scale) * z[b, t, s] + shift + x * tilt_x + y * tilt_y
                torch.testing.assert_close(out[b, t, s], expected, **close(torch.float32))


def test_conv_block_runs_a_3x1x1_convolution_over_time():
    torch.manual_seed(1)
    block = filled(TemporalConvBlock(C, E), 0.5)
    z, e = torch.randn(B, T, S, C), torch.randn(B, T, E)
    h = torch.nn.functional.silu(block.norm1(z))
    for i, conv in enumerate((block.conv1, block.conv2)):
        weight = conv.weight[..., None]  # out in 3 1 -> out in 3 1 1
        volume = h.view(B, T, 2, 3, C).permute(0, 4, 1, 2, 3)
        volume = torch.nn.functional.conv3d(volume, weight, conv.bias, padding=(1, 0, 0))
        h = volume.permute(0, 2, 3, 4, 1).reshape(B, T, S, C)
        if i == 0:
            h = torch.nn.functional.silu(block.modulation(block.norm2(h), e, PLACE))
    torch.testing.assert_close(block(z, e, PLACE, WHEN), z + 0.5 * h, **close(torch.float32))


def test_attention_block_is_a_loop_over_positions_and_heads():
    torch.manual_seed(2)
    block = filled(TemporalAttentionBlock(C, E, head_dim=8), -0.4)
    z, e = torch.randn(B, T, S, C), torch.randn(B, T, E)
    modulated = block.modulation(block.norm(z), e, PLACE)
    expected = z.clone()
    for b in range(B):
        for s in range(S):
            h = modulated[b, :, s] + frame_positions(WHEN, C)
            q, k, v = (h @ block.to_qkv.weight.T).chunk(3, -1)
            heads = []
            for i in (0, 8):
                scores = q[:, i : i + 8] @ k[:, i : i + 8].T / math.sqrt(8)
                heads.append(scores.softmax(-1) @ v[:, i : i + 8])
            expected[b, :, s] += -0.4 * linear(torch.cat(heads, -1), block.to_out.weight, block.to_out.bias)
    torch.testing.assert_close(block(z, e, PLACE, WHEN), expected, **close(torch.float32))


def test_space_time_attention_is_a_loop_over_queries_and_heads():
    torch.manual_seed(2)
    block = filled(SpaceTimeAttentionBlock(C, head_dim=8), -0.4)
    z, e = torch.randn(B, T, S, C), torch.randn(B, T, E)
    normed = block.norm(z)
    expected = z.clone()
    for b in range(B):
        h = torch.stack([
            normed[b, t, s] + frame_positions(WHEN, C)[t] + block.place.weight @ waves(PLACE)[s]
            for t in range(T) for s in range(S)
        ])  # fmt: skip
        q, k, v = (h @ block.to_qkv.weight.T).chunk(3, -1)
        for n in range(T * S):
            heads = [(q[n, i : i + 8] @ k[:, i : i + 8].T / 8**0.5).softmax(-1) @ v[:, i : i + 8] for i in (0, 8)]
            mixed = linear(torch.cat(heads), block.to_out.weight, block.to_out.bias)
            expected[b, n // S, n % S] += -0.4 * mixed
    torch.testing.assert_close(block(z, e, PLACE, WHEN), expected, **close(torch.float32))


def test_waves_are_the_formula_and_tell_places_apart():
    found = waves(places(8, 8))
    x, y = places(8, 8)[11].tolist()
    angles = [x * math.pi / 2 * 2**k for k in range(4)], [y * math.pi / 2 * 2**k for k in range(4)]
    wanted = [f(angle) for axis in angles for f in (math.sin, math.cos) for angle in axis]
    assert found[11].tolist() == pytest.approx(wanted, abs=1e-5)
    assert torch.cdist(found, found).fill_diagonal_(1).min() > 0.3


def test_attention_tells_frames_apart_only_by_positions():
    """Frames in another order, with e in that order too: another result, since positions did not move with them."""
    torch.manual_seed(3)
    block = filled(TemporalAttentionBlock(C, E, head_dim=8))
    z, e = torch.randn(1, T, S, C), torch.zeros(1, T, E)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert not torch.allclose(block(z[:, order], e, PLACE, WHEN), block(z, e, PLACE, WHEN)[:, order], atol=1e-3)


def test_frame_embedding_is_the_equation_and_knows_the_frame():
    torch.manual_seed(4)
    embedding = FrameEmbedding(time_dim=6, text_dim=12, embed_dim=E)
    time, tokens = torch.randn(B, 6), torch.randn(B, 7, 12)
    e = embedding(time, tokens, WHEN)
    features = torch.stack([embedding.word(embedding.text_norm(tokens[:, i])) for i in range(7)])
    words = features.max(dim=0).values
    silu = torch.nn.functional.silu
    gain = (1 + embedding.gain(words))[:, None]
    hidden = (embedding.time(silu(time)) + embedding.text(words))[:, None] + gain * embedding.position(
        frame_positions(WHEN, E)
    )
    torch.testing.assert_close(e, silu(embedding.out(silu(hidden))), **close(torch.float32))
    assert (e[:, 0] - e[:, 1]).abs().max() > 1e-3


def test_a_word_tells_frames_the_same_wherever_it_stands_in_however_long_a_prompt():
    torch.manual_seed(5)
    embedding = FrameEmbedding(time_dim=6, text_dim=12, embed_dim=E)
    time, word, padding = torch.randn(1, 6), torch.randn(1, 1, 12), torch.randn(1, 1, 12)
    early = torch.cat([word, padding.expand(1, 6, 12)], dim=1)
    late = torch.cat([padding.expand(1, 40, 12), word], dim=1)
    torch.testing.assert_close(embedding(time, early, WHEN), embedding(time, late, WHEN), **close(torch.float32))
    without = embedding(time, padding.expand(1, 7, 12), WHEN)
    assert (embedding(time, early, WHEN) - without).abs().max() > 0.01


@pytest.mark.parametrize(
    "layer", [TemporalConvBlock(C, E), TemporalAttentionBlock(C, E, 8), SpaceTimeAttentionBlock(C, 8)]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_apply_over_frames_keeps_the_memory_format(layer, memory_format):
    torch.manual_seed(5)
    layer = filled(layer, 0.5)
    z = torch.randn(B * T, C, 2, 3).to(memory_format=memory_format)
    e = torch.randn(B, T, E)
    out = apply_over_frames(layer, z, e, WHEN)
    assert out.is_contiguous(memory_format=memory_format)
    expected = layer(z.permute(0, 2, 3, 1).reshape(B, T, S, C), e, PLACE, WHEN)
    assert torch.equal(out.permute(0, 2, 3, 1).reshape(B, T, S, C), expected)
