"""What the attention decoder promises, on one small enough to build in a millisecond."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hyperasr.attention_decoder import AttentionDecoder, AttentionDecoderConfig
from hyperasr.checkpoint import load_checkpoint, save_checkpoint
from hyperasr.encoder import Encoder, EncoderConfig, sinusoids
from hyperasr.errors import CheckpointError, ConfigError
from hyperasr.features import LogMel
from hyperasr.tokens import CharTokens

TINY = AttentionDecoderConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=4, d_ffn=32)
BOS, EOS = TINY.bos, TINY.eos


def build(config: AttentionDecoderConfig = TINY) -> AttentionDecoder:
    """Random weights, biases and norms, so that nothing is the identity by accident."""
    torch.manual_seed(0)
    decoder = AttentionDecoder(config)
    for parameter in decoder.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.3, std=0.5)
    return decoder.eval()


@pytest.fixture
def decoder():
    return build()


def lengths(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


def as_torch_has_it(decoder: AttentionDecoder) -> nn.TransformerDecoder:
    """The same weights in torch's own decoder, which is written without ours in sight."""
    c = decoder.config
    layer = nn.TransformerDecoderLayer(
        c.d_model, c.n_heads, c.d_ffn, c.dropout, "gelu", 1e-6, batch_first=True, norm_first=True
    )
    theirs = nn.TransformerDecoder(layer, c.n_layers, nn.LayerNorm(c.d_model, eps=1e-6))
    for own, other in zip(decoder.layers, theirs.layers, strict=True):
        other.norm1, other.norm2, other.norm3 = own.look_back_norm, own.listen_norm, own.ffn_norm
        other.linear1, other.linear2 = own.ffn[0], own.ffn[3]
        pairs = (own.look_back, other.self_attn), (own.listen, other.multihead_attn)
        for attention, mha in pairs:
            q, kv = attention.query, attention.key_value
            mha.in_proj_weight = nn.Parameter(torch.cat([q.weight, kv.weight]))
            mha.in_proj_bias = nn.Parameter(torch.cat([q.bias, kv.bias]))
            mha.out_proj.load_state_dict(attention.out.state_dict())
    theirs.norm = decoder.norm
    return theirs.eval()


@torch.no_grad()
def test_it_computes_what_torchs_decoder_computes(decoder):
    tokens = torch.tensor([[BOS, 5, 5, 9, 3, 0, 10]])
    encoded = torch.randn(1, 13, TINY.d_model)
    x = decoder.embedding(tokens) * TINY.d_model**0.5 + sinusoids(7, 16, torch.device("cpu"))
    causal = nn.Transformer.generate_square_subsequent_mask(7)
    out = as_torch_has_it(decoder)(x, encoded, tgt_mask=causal, tgt_is_causal=True)
    expected = decoder.output(out).log_softmax(dim=-1)
    torch.testing.assert_close(decoder(encoded, lengths(13), tokens, lengths(7)), expected)


def test_rows_are_log_probabilities(decoder):
    log_probs = decoder(
        torch.randn(2, 9, 16), lengths(9, 4), torch.tensor([[BOS, 4], [BOS, 7]]), lengths(2, 2)
    )
    assert log_probs.shape == (2, 2, 11)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 2))


@torch.no_grad()
def test_no_token_sees_what_follows_it(decoder):
    encoded, said = torch.randn(1, 6, 16), torch.tensor([[BOS, 3, 4, 5, 6]])
    before = decoder(encoded, lengths(6), said, lengths(5))
    said[0, 3] = 9
    after = decoder(encoded, lengths(6), said, lengths(5))
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=0)
    assert (before[:, 3:] - after[:, 3:]).abs().amax() > 0.01


@torch.no_grad()
def test_every_frame_matters(decoder):
    encoded, said = torch.randn(1, 6, 16), torch.tensor([[BOS, 3]])
    before = decoder(encoded, lengths(6), said, lengths(2))
    for frame in range(6):
        other = encoded.clone()
        other[:, frame] += torch.randn(16)
        assert (decoder(other, lengths(6), said, lengths(2)) - before).abs().amax() > 1e-4


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=4),
    behind=st.sampled_from([-100, -1, 0, 3, 10_000]),
)
@torch.no_grad()
def test_padding_changes_nothing(sizes, behind):
    decoder = build()
    S, U = max(s for s, _ in sizes) + 2, max(u for _, u in sizes) + 2
    encoded = 100 * torch.randn(len(sizes), S, 16)  # loud where nothing should be heard
    tokens = torch.full((len(sizes), U), behind)
    for row, (_, u) in zip(tokens, sizes, strict=True):
        row[:u] = torch.cat([lengths(BOS), torch.randint(3, 11, (u - 1,))])
    frames, words = torch.tensor(sizes).unbind(1)
    together = decoder(encoded, frames, tokens, words)
    assert together.isfinite().all()
    for n, (s, u) in enumerate(sizes):
        alone = decoder(encoded[n : n + 1, :s], lengths(s), tokens[n : n + 1, :u], lengths(u))
        torch.testing.assert_close(together[n, :u], alone[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_score_is_the_sum_over_the_tokens_and_the_end(decoder):
    encoded, heard = torch.randn(3, 8, 16), lengths(8, 5, 8)
    guesses = [[4, 5, 6], [], [7]]
    scores = decoder.score(encoded, heard, guesses)
    for n, guess in enumerate(guesses):
        said = torch.tensor([[BOS, *guess]])
        rows = decoder(encoded[n : n + 1], heard[n : n + 1], said, lengths(len(guess) + 1))[0]
        expected = sum(rows[u, token] for u, token in enumerate([*guess, EOS]))
        torch.testing.assert_close(scores[n], expected)


@torch.no_grad()
def test_guesses_at_one_utterance_share_its_frames(decoder):
    encoded, guesses = torch.randn(1, 8, 16), [[4, 5], [9], [3, 3, 3]]
    shared = decoder.score(encoded, lengths(7), guesses)
    repeated = decoder.score(encoded.repeat(3, 1, 1), lengths(7, 7, 7), guesses)
    torch.testing.assert_close(shared, repeated)
    assert decoder.score(encoded, lengths(7), []).shape == (0,)


@torch.no_grad()
def test_all_that_can_be_said_in_two_tokens_has_probability_one(decoder):
    """Every first token, and after every first token but the end every second one."""
    encoded, heard = torch.randn(1, 5, 16), lengths(5)
    others = [token for token in range(11) if token != EOS]
    first = decoder(encoded, heard, torch.tensor([[BOS]]), lengths(1))[0, 0].exp()
    ended = (
        decoder.score(encoded, heard, [[]]).exp()
        + decoder.score(encoded, heard, [[token] for token in others]).exp().sum()
    )
    said = torch.tensor([[BOS, token] for token in others])
    second = decoder(encoded.repeat(10, 1, 1), heard.repeat(10), said, lengths(2).repeat(10))
    unfinished = (first[others] * (1 - second[:, 1, EOS].exp())).sum()
    torch.testing.assert_close((ended + unfinished).item(), 1.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"vocab_size": 0},
        {"n_layers": 0},
        {"n_heads": 0},
        {"n_heads": 5},
        {"d_model": 15, "n_heads": 5},
        {"d_ffn": -1},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"bos": 5000},
        {"eos": -1},
    ],
)
def test_impossible_sizes_are_refused_with_the_setting_named(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        AttentionDecoderConfig(**bad)


def test_it_has_as_many_parameters_as_the_recipes_decoder():
    counts = {
        config: sum(p.numel() for p in AttentionDecoder(config).parameters())
        for config in (AttentionDecoderConfig(), AttentionDecoderConfig(d_model=256, d_ffn=1024))
    }
    # decoder, target embedding and head in the reference (see docs/design)
    assert list(counts.values()) == [
        1_338_336 + 720_000 + 725_000,
        4_214_272 + 1_280_000 + 1_285_000,
    ]


def test_it_can_learn_to_tell_two_utterances_apart():
    torch.manual_seed(0)
    encoder = Encoder(
        EncoderConfig(
            n_mels=8,
            vocab_size=11,
            d_model=16,
            n_layers=1,
            n_heads=2,
            d_ffn=32,
            channels=(4, 4),
            dropout=0.0,
        )
    )
    decoder = AttentionDecoder(AttentionDecoderConfig(11, 16, 1, 4, 32))
    features, frames = torch.randn(2, 40, 8), lengths(40, 33)
    said = torch.tensor([[BOS, 3, 1, 4, 1, 5], [BOS, 9, 2, 6, -100, -100]])
    following = torch.tensor([[3, 1, 4, 1, 5, EOS], [9, 2, 6, EOS, -100, -100]])
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(40):
        *_, hidden = encoder.hidden(features, frames)
        heard = encoder.norm(hidden)
        log_probs = decoder(heard, encoder.output_lengths(frames), said, lengths(6, 4))
        loss = nn.functional.nll_loss(log_probs.transpose(1, 2), following)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    scores = decoder.eval().score(
        heard[:1].detach(), encoder.output_lengths(frames[:1]), [[3, 1, 4, 1, 5], [9, 2, 6]]
    )
    assert scores[0] > scores[1] + 3


# In a checkpoint

LISTENER = EncoderConfig(d_model=16, n_layers=1, n_heads=2, d_ffn=32, channels=(4, 4))


SPEAKER = replace(TINY, vocab_size=29)


def save(folder, config=SPEAKER, half=False):
    decoder = None if config is None else build(config)
    save_checkpoint(folder, Encoder(LISTENER), LogMel(), CharTokens(), half=half, decoder=decoder)
    return decoder


@pytest.mark.parametrize("half", [False, True])
def test_a_checkpoint_keeps_the_decoder(tmp_path, half):
    decoder = save(tmp_path / "model", half=half)
    loaded = load_checkpoint(tmp_path / "model").decoder
    assert loaded.config == decoder.config
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if half else {"rtol": 0, "atol": 0}
    for name, tensor in decoder.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, **tolerance)


def test_a_checkpoint_without_a_decoder_loads_and_leaves_none_behind(tmp_path):
    save(tmp_path / "model")
    save(tmp_path / "model", None)  # in its place
    assert load_checkpoint(tmp_path / "model").decoder is None
    assert not (tmp_path / "model" / "decoder.safetensors").exists()


def damage(folder, change) -> str:
    """Why a checkpoint is refused after `change` of its config."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    return str(error.value)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"n_layers": 1}, "decoder.safetensors does not fit: unexpected: layers.1."),
        ({"d_ffn": 64}, r"ffn.0.weight (32, 16) instead of (64, 16)"),
        ({"d_model": 32}, "the decoder's width or vocabulary is not the encoder's"),
        ({"vocab_size": 30}, "the decoder's width or vocabulary is not the encoder's"),
        ({"n_heads": 5}, "does not describe a decoder: n_heads=5"),
        ({"depth": 3}, "does not describe a decoder: "),
        ({"n_layers": "2"}, "does not describe a decoder: "),
    ],
)
def test_a_config_that_does_not_fit_the_decoder_is_refused(tmp_path, sizes, reason):
    save(tmp_path / "model")
    assert reason in damage(tmp_path / "model", lambda config: config["decoder"].update(sizes))


def test_a_decoder_that_is_not_the_one_written_is_refused(tmp_path):
    save(tmp_path / "model")
    path = tmp_path / "model" / "decoder.safetensors"
    reason = damage(tmp_path / "model", lambda config: config.update(decoder_sha256="0" * 64))
    assert "decoder.safetensors is not the file" in reason
    path.write_bytes(path.read_bytes()[:-8])
    assert "decoder.safetensors cannot be read" in damage(tmp_path / "model", lambda config: None)
    path.unlink()
    assert "lacks decoder.safetensors" in damage(tmp_path / "model", lambda config: None)
