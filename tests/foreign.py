"""Models of SpeechBrain: a small one made from its names alone, and the real thing to run."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import sentencepiece
import torch

VOCABULARY = 90

# Written down from a checkpoint of the reference, not from the table that is tested with them:
# a model of two layers, width 8 with 2 heads, d_ffn 16, 4 and 3 channels.
OUTSIDE = """
    0.convblock_0.convs.conv_0.conv.weight 4 1 3 3
    0.convblock_0.convs.conv_0.conv.bias 4
    0.convblock_0.convs.norm_0.norm.weight 40 4
    0.convblock_0.convs.norm_0.norm.bias 40 4
    0.convblock_1.convs.conv_0.conv.weight 3 4 3 3
    0.convblock_1.convs.conv_0.conv.bias 3
    0.convblock_1.convs.norm_0.norm.weight 20 3
    0.convblock_1.convs.norm_0.norm.bias 20 3
    1.encoder.norm.norm.weight 8
    1.encoder.norm.norm.bias 8
    1.decoder.norm.norm.weight 8
    1.decoder.norm.norm.bias 8
    1.custom_src_module.layers.0.w.weight 8 60
    1.custom_src_module.layers.0.w.bias 8
    1.custom_tgt_module.layers.0.emb.Embedding.weight 90 8
    2.w.weight 90 8
    2.w.bias 90
    3.w.weight 90 8
    3.w.bias 90
"""
ENCODER_LAYER = """
    convolution_module.layer_norm.weight 8
    convolution_module.layer_norm.bias 8
    convolution_module.bottleneck.0.weight 16 8 1
    convolution_module.bottleneck.0.bias 16
    convolution_module.conv.weight 8 1 31
    convolution_module.conv.bias 8
    convolution_module.after_conv.0.weight 8
    convolution_module.after_conv.0.bias 8
    convolution_module.after_conv.2.weight 8 8
    convolution_module.after_conv.2.bias 8
    ffn_module1.0.weight 8
    ffn_module1.0.bias 8
    ffn_module1.1.ffn.0.weight 16 8
    ffn_module1.1.ffn.0.bias 16
    ffn_module1.1.ffn.3.weight 8 16
    ffn_module1.1.ffn.3.bias 8
    ffn_module2.0.weight 8
    ffn_module2.0.bias 8
    ffn_module2.1.ffn.0.weight 16 8
    ffn_module2.1.ffn.0.bias 16
    ffn_module2.1.ffn.3.weight 8 16
    ffn_module2.1.ffn.3.bias 8
    norm1.norm.weight 8
    norm1.norm.bias 8
    norm2.norm.weight 8
    norm2.norm.bias 8
"""
MIXING = {
    "hypermixing": """
    mha_layer.hyper.w1_gen.fc1_weights 2 4 4
    mha_layer.hyper.w1_gen.fc1_biases 2 4
    mha_layer.hyper.w1_gen.fc2_weights 2 8 4
    mha_layer.hyper.w1_gen.fc2_biases 2 8
    mha_layer.hyper.w2_gen.fc1_weights 2 4 4
    mha_layer.hyper.w2_gen.fc1_biases 2 4
    mha_layer.hyper.w2_gen.fc2_weights 2 8 4
    mha_layer.hyper.w2_gen.fc2_biases 2 8
    mha_layer.layer_norm.weight 8
    mha_layer.layer_norm.bias 8
""",
    "attention": """
    mha_layer.in_proj_weight 24 8
    mha_layer.pos_bias_u 4 2
    mha_layer.pos_bias_v 4 2
    mha_layer.out_proj.weight 8 8
    mha_layer.out_proj.bias 8
    mha_layer.linear_pos.weight 8 8
""",
}
DECODER_LAYER = """
    self_attn.att.in_proj_weight 24 8
    self_attn.att.in_proj_bias 24
    self_attn.att.out_proj.weight 8 8
    self_attn.att.out_proj.bias 8
    multihead_attn.att.in_proj_weight 24 8
    multihead_attn.att.in_proj_bias 24
    multihead_attn.att.out_proj.weight 8 8
    multihead_attn.att.out_proj.bias 8
    pos_ffn.ffn.0.weight 16 8
    pos_ffn.ffn.0.bias 16
    pos_ffn.ffn.3.weight 8 16
    pos_ffn.ffn.3.bias 8
    norm1.norm.weight 8
    norm1.norm.bias 8
    norm2.norm.weight 8
    norm2.norm.bias 8
    norm3.norm.weight 8
    norm3.norm.bias 8
"""
STATISTICS = {"count": 9, "glob_mean": torch.full((80,), -40.0), "glob_std": torch.full((80,), 9.0)}


def weights(mixer: str = "hypermixing") -> dict[str, torch.Tensor]:
    """Random weights of the small model."""
    generator = torch.Generator().manual_seed(0)
    groups = [("", OUTSIDE)]
    for n in range(2):
        groups.append((f"1.encoder.layers.{n}.", ENCODER_LAYER + MIXING[mixer]))
        groups.append((f"1.decoder.layers.{n}.", DECODER_LAYER))
    state = {}
    for prefix, lines in groups:
        for line in lines.split("\n"):
            name, *shape = line.split() or ("",)
            if name:
                state[prefix + name] = torch.randn([*map(int, shape)], generator=generator)
    return state


@cache
def tokenizer() -> bytes:
    """A subword model as the recipe trains it: unknown 0, start 1, end 2, capitals."""
    syllables = [a + b for a in "BCDFGKLMNPRSTV" for b in ("A", "E", "I", "O", "U", "'S")]
    generator = np.random.default_rng(0)
    lines = [
        " ".join("".join(generator.choice(syllables, generator.integers(1, 4))) for _ in range(9))
        for _ in range(300)
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=VOCABULARY,
        model_type="unigram",
        bos_id=1,
        eos_id=2,
        unk_id=0,
        minloglevel=2,
    )
    return model.getvalue()


def release(folder: Path, state=None, statistics=STATISTICS) -> Path:
    """A release folder of the small model, or of `state`."""
    folder.mkdir(parents=True)
    torch.save(weights() if state is None else state, folder / "model.ckpt")
    torch.save(statistics, folder / "normalizer.ckpt")
    (folder / "tokenizer.ckpt").write_bytes(tokenizer())
    return folder


class Reference:
    """The recipe's own modules with random weights, and what they say about a waveform."""

    def __init__(self, mixer: str, **sizes: int):
        from speechbrain.lobes.features import Fbank
        from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
        from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
        from speechbrain.nnet.linear import Linear
        from speechbrain.processing.features import InputNormalization

        torch.manual_seed(0)
        self.fbank = Fbank(sample_rate=16_000, n_fft=400, n_mels=80)
        self.normalize = InputNormalization(norm_type="global", update_until_epoch=4)
        self.cnn = ConvolutionFrontEnd(
            input_shape=(8, 10, 80),
            num_blocks=2,
            num_layers_per_block=1,
            out_channels=(64, 32),
            kernel_sizes=(3, 3),
            strides=(2, 2),
            residuals=(False, False),
        )
        self.transformer = TransformerASR(
            input_size=640,
            tgt_vocab=VOCABULARY,
            nhead=8,
            num_encoder_layers=10,
            num_decoder_layers=4,
            dropout=0.1,
            activation=torch.nn.GELU,
            encoder_module="conformer",
            attention_type=mixer,
            normalize_before=True,
            causal=False,
            **sizes,
        )
        self.seq_lin = Linear(input_size=sizes["d_model"], n_neurons=VOCABULARY)
        self.ctc_lin = Linear(input_size=sizes["d_model"], n_neurons=VOCABULARY)
        self.model = torch.nn.ModuleList([self.cnn, self.transformer, self.seq_lin, self.ctc_lin])
        self.randomise()
        self.model.eval()

    @torch.no_grad()
    def randomise(self) -> None:
        """Norms and biases away from 1 and 0, so that none of them is forgotten unnoticed."""
        for name, parameter in self.model.named_parameters():
            if parameter.dim() == 1 or "norm" in name:
                is_scale = "norm" in name and name.endswith("weight")
                torch.nn.init.normal_(parameter, 1.0 if is_scale else 0.0, 0.2)

    @torch.no_grad()
    def listen(self, waveform: np.ndarray) -> None:
        """Statistics for the normaliser; a head that says many things, but never <s> or </s>."""
        decibels = self.fbank(torch.from_numpy(waveform)[None])
        self.normalize.train()
        features = self.normalize(decibels, torch.ones(1), epoch=1)
        self.normalize.eval()
        encoded = self.transformer.encode(self.cnn(features), torch.ones(1))
        self.ctc_lin.w.weight.mul_(4.0)
        logits = encoded[0] @ self.ctc_lin.w.weight.T
        self.ctc_lin.w.bias.copy_(-logits.mean(dim=0))
        self.ctc_lin.w.bias[0] += logits.std(dim=0).mean()
        self.ctc_lin.w.bias[1:3] = -50.0

    def save(self, folder: Path) -> Path:
        """Write a training folder with the reference's own Checkpointer."""
        from speechbrain.utils.checkpoints import Checkpointer

        (folder / "save").mkdir(parents=True)
        (folder / "save" / "tokenizer.ckpt").write_bytes(tokenizer())
        parts = {"model": self.model, "normalizer": self.normalize}
        Checkpointer(folder / "save", parts).save_checkpoint(meta={"ACC": 0.93, "epoch": 3})
        return folder

    @torch.no_grad()
    def __call__(self, waveform: np.ndarray, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Decibels, features, log-probabilities of CTC and of the decoder."""
        decibels = self.fbank(torch.from_numpy(waveform)[None])
        features = self.normalize(decibels, torch.ones(1))
        encoded, decoded = self.transformer(self.cnn(features), tokens, torch.ones(1), pad_idx=0)
        ctc, attention = self.ctc_lin(encoded), self.seq_lin(decoded)
        return decibels, features, ctc.log_softmax(dim=-1), attention.log_softmax(dim=-1)
