"""What SpeechBrain calls the tensors of a HyperConformer, and what they are called here.

One table, in which every foreign tensor stands exactly once. Shapes are spelled with the letters
of encoder.py, and

    C1, C2  channels of the front end     N   d_ffn           W  width of the depthwise kernel
    F1, F2  its mel bands                 P   F2 times C2
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hyperasr.attention_decoder import AttentionDecoder, AttentionDecoderConfig
from hyperasr.encoder import Encoder, EncoderConfig, sinusoids
from hyperasr.errors import CheckpointError, ConfigError

Mixer = Literal["hypermixing", "attention"]

# The architecture

OTHERS = (
    # What a name says, before anything else is looked at.
    (r"convolution_branch", "a Branchformer"),
    (r"\.encoder\.layers\.0\.self_att\.", "a Transformer without the Conformer's convolutions"),
    (r"mha_layer\.att\.", "a Conformer with plain attention (regularMHA)"),
    (r"feature_extractor\.conv_layers\.", "built on a pretrained wav2vec, HuBERT or WavLM"),
)
MIXERS: dict[Mixer, str] = {
    "hypermixing": "1.encoder.layers.0.mha_layer.hyper.",
    "attention": "1.encoder.layers.0.mha_layer.pos_bias_u",
}
HEADS: dict[Mixer, tuple[str, int]] = {
    "hypermixing": ("mha_layer.hyper.w1_gen.fc1_weights", 0),
    "attention": ("mha_layer.pos_bias_u", 1),
}
"""The tensor of a layer, and its axis, whose length is the number of heads."""


def find_mixer(names: Collection[str], path: Path) -> Mixer:
    """Which mixer the names belong to; raises CheckpointError with the reason for other models."""
    ours = "hyperasr imports HyperConformers and Conformers with relative positions"
    for mark, what in OTHERS:
        if any(re.search(mark, name) for name in names):
            raise CheckpointError(f"{path} is {what}: {ours}")
    for mixer, prefix in MIXERS.items():
        if any(name.startswith(prefix) for name in names):
            return mixer
    examples = [name for name in names if ".encoder.layers.0." in name] or list(names)
    raise CheckpointError(
        f"{path} is another kind of model (it has {', '.join(examples[:3]) or 'nothing'}): {ours}"
    )


# The table


@dataclass(frozen=True, slots=True)
class Rule:
    """Foreign tensors of one shape -> own tensors. Several names are separated by spaces."""

    foreign: str
    shape: str
    own: str
    change: Callable[..., Tensor | tuple[Tensor, ...]] = lambda tensor: tensor


def linear(foreign: str, shape: str, own: str) -> tuple[Rule, Rule]:
    """The rules for a Linear of `shape` "out in"."""
    return (
        Rule(f"{foreign}.weight", shape, f"{own}.weight"),
        Rule(f"{foreign}.bias", shape.split()[0], f"{own}.bias"),
    )


def norm(foreign: str, own: str, shape: str = "D") -> tuple[Rule, Rule]:
    """The rules for a LayerNorm."""
    return (
        Rule(f"{foreign}.weight", shape, f"{own}.weight"),
        Rule(f"{foreign}.bias", shape, f"{own}.bias"),
    )


def attention(foreign: str, own: str) -> tuple[Rule, ...]:
    """The rules for torch's MultiheadAttention, which keeps query, key and value in one matrix."""

    def split(tensor: Tensor) -> tuple[Tensor, ...]:
        return tensor[: len(tensor) // 3], tensor[len(tensor) // 3 :]

    return (
        Rule(
            f"{foreign}.in_proj_weight", "3D D", f"{own}.query.weight {own}.key_value.weight", split
        ),
        Rule(f"{foreign}.in_proj_bias", "3D", f"{own}.query.bias {own}.key_value.bias", split),
        *linear(f"{foreign}.out_proj", "D D", f"{own}.out"),
    )


def time_first(kernel: Tensor) -> Tensor:
    """(out, in, frequency, time) -> (out, in, time, frequency)."""
    return kernel.transpose(2, 3)


def side_by_side(*networks: Tensor) -> Tensor:
    """Weights (H, out, in) -> (H, in, out of all), biases (H, out) -> (H, 1, out of all)."""
    return torch.cat(
        [t.transpose(1, 2) if t.dim() == 3 else t.unsqueeze(1) for t in networks], dim=2
    )


def per_head(bias: Tensor) -> Tensor:
    """(E, H) in name, but its numbers lie in memory, and are used, head by head -> (H, 1, E)."""
    return bias.reshape(bias.shape[1], 1, bias.shape[0])


OUTSIDE = (
    Rule("0.convblock_0.convs.conv_0.conv.weight", "C1 1 3 3", "encoder.front_end.conv1.weight",
         lambda kernel: time_first(kernel).flatten(1)),
    Rule("0.convblock_0.convs.conv_0.conv.bias", "C1", "encoder.front_end.conv1.bias"),
    *norm("0.convblock_0.convs.norm_0.norm", "encoder.front_end.norm1", "F1 C1"),
    Rule("0.convblock_1.convs.conv_0.conv.weight", "C2 C1 3 3", "encoder.front_end.conv2.weight",
         time_first),
    Rule("0.convblock_1.convs.conv_0.conv.bias", "C2", "encoder.front_end.conv2.bias"),
    *norm("0.convblock_1.convs.norm_0.norm", "encoder.front_end.norm2", "F2 C2"),
    *linear("1.custom_src_module.layers.0.w", "D P", "encoder.front_end.project"),
    *norm("1.encoder.norm.norm", "encoder.norm"),
    *linear("3.w", "V D", "encoder.ctc"),
    Rule("1.custom_tgt_module.layers.0.emb.Embedding.weight", "V D", "decoder.embedding.weight"),
    *norm("1.decoder.norm.norm", "decoder.norm"),
    *linear("2.w", "V D", "decoder.output"),
)  # fmt: skip
BLOCK = (
    *norm("ffn_module1.0", "ffn_in.0"),
    *linear("ffn_module1.1.ffn.0", "N D", "ffn_in.1"),
    *linear("ffn_module1.1.ffn.3", "D N", "ffn_in.4"),
    *norm("norm1.norm", "mixing_norm"),
    *norm("convolution_module.layer_norm", "convolution.norm"),
    Rule("convolution_module.bottleneck.0.weight", "2D D 1", "convolution.gate.weight",
         lambda kernel: kernel.squeeze(2)),
    Rule("convolution_module.bottleneck.0.bias", "2D", "convolution.gate.bias"),
    Rule("convolution_module.conv.weight", "D 1 W", "convolution.depthwise.weight"),
    Rule("convolution_module.conv.bias", "D", "convolution.depthwise.bias"),
    *norm("convolution_module.after_conv.0", "convolution.out_norm"),
    *linear("convolution_module.after_conv.2", "D D", "convolution.out"),
    *norm("ffn_module2.0", "ffn_out.0"),
    *linear("ffn_module2.1.ffn.0", "N D", "ffn_out.1"),
    *linear("ffn_module2.1.ffn.3", "D N", "ffn_out.4"),
    *norm("norm2.norm", "norm"),
)  # fmt: skip
MIXING = {
    "hypermixing": (
        Rule("mha_layer.hyper.w1_gen.fc1_weights mha_layer.hyper.w2_gen.fc1_weights", "H E E",
             "mixing.hidden_weight", side_by_side),
        Rule("mha_layer.hyper.w1_gen.fc1_biases mha_layer.hyper.w2_gen.fc1_biases", "H E",
             "mixing.hidden_bias", side_by_side),
        Rule("mha_layer.hyper.w1_gen.fc2_weights", "H K E", "mixing.in_weight", side_by_side),
        Rule("mha_layer.hyper.w1_gen.fc2_biases", "H K", "mixing.in_bias", side_by_side),
        Rule("mha_layer.hyper.w2_gen.fc2_weights", "H K E", "mixing.out_weight", side_by_side),
        Rule("mha_layer.hyper.w2_gen.fc2_biases", "H K", "mixing.out_bias", side_by_side),
        *norm("mha_layer.layer_norm", "mixing.norm"),
    ),
    "attention": (
        Rule("mha_layer.in_proj_weight", "3D D", "mixing.query_key_value.weight"),
        Rule("mha_layer.linear_pos.weight", "D D", "mixing.position.weight"),
        Rule("mha_layer.pos_bias_u", "E H", "mixing.content_bias", per_head),
        Rule("mha_layer.pos_bias_v", "E H", "mixing.position_bias", per_head),
        *linear("mha_layer.out_proj", "D D", "mixing.out"),
    ),
}  # fmt: skip
DECODER_LAYER = (
    *norm("norm1.norm", "look_back_norm"),
    *attention("self_attn.att", "look_back"),
    *norm("norm2.norm", "listen_norm"),
    *attention("multihead_attn.att", "listen"),
    *norm("norm3.norm", "ffn_norm"),
    *linear("pos_ffn.ffn.0", "N D", "ffn.0"),
    *linear("pos_ffn.ffn.3", "D N", "ffn.3"),
)
ENCODER_LAYERS, DECODER_LAYERS = "1.encoder.layers.", "1.decoder.layers."
DROPPED = (
    # Position codes: computed here, and compared with ours before they go.
    r"1\.positional_encoding\.pe",
    r"1\.positional_encoding_decoder\.pe",
    r"1\.positional_encoding\.inv_freq",
    r"1\.encoder\.layers\.\d+\.mha_layer\.positional_encoding\.pe",
)


def table(names: Collection[str], mixer: Mixer) -> Iterator[tuple[list[str], Rule, list[str]]]:
    """Each rule, once per layer that `names` speak of: foreign names, the rule, own names."""
    groups: list[tuple[str, str, tuple[Rule, ...]]] = [("", "", OUTSIDE)]
    for foreign, own, rules in (
        (ENCODER_LAYERS, "encoder.blocks.", BLOCK + MIXING[mixer]),
        (DECODER_LAYERS, "decoder.layers.", DECODER_LAYER),
    ):
        layers = range(count_layers(names, foreign))
        groups += [(f"{foreign}{n}.", f"{own}{n}.", rules) for n in layers]
    for foreign, own, rules in groups:
        for rule in rules:
            foreign_names = [foreign + name for name in rule.foreign.split()]
            yield foreign_names, rule, [own + name for name in rule.own.split()]


def count_layers(names: Collection[str], prefix: str) -> int:
    """How many different layers the names speak of; at least one, to be missed."""
    return max(1, len({n[len(prefix) :].split(".")[0] for n in names if n.startswith(prefix)}))


# Using it


def rename(state: Mapping[str, Tensor], path: Path) -> tuple[Encoder, AttentionDecoder]:
    """The model whose tensors `state`, read from `path`, holds under their foreign names.

    Raises CheckpointError that names every tensor that is missing, unknown, mis-shaped or
    not finite.
    """
    mixer = find_mixer(state, path)
    rules = list(table(state, mixer))
    expected = {name for foreign, _, _ in rules for name in foreign}
    dropped = {name for name in state if re.fullmatch("|".join(DROPPED), name)}
    _refuse(path, missing=expected - state.keys(), unknown=state.keys() - expected - dropped)

    sizes = _sizes(state, mixer, path)
    shapes = {
        name: tuple(sizes[axis] if axis in sizes else int(axis) for axis in rule.shape.split())
        for foreign, rule, _ in rules
        for name in foreign
    }
    _refuse(
        path,
        of_the_wrong_shape={
            f"{name} {tuple(state[name].shape)} instead of {shape}"
            for name, shape in shapes.items()
            if tuple(state[name].shape) != shape
        },
        not_finite={name for name in shapes if not state[name].isfinite().all()},
        not_our_position_codes={name for name in dropped if not _is_position_code(state[name])},
    )
    encoder, decoder = _build(state, mixer, sizes, path)
    own: dict[str, Tensor] = {}
    for foreign, rule, names in rules:
        changed = rule.change(*(state[name].float() for name in foreign))
        tensors = changed if isinstance(changed, tuple) else (changed,)
        own |= zip(names, tensors, strict=True)
    nn.ModuleDict({"encoder": encoder, "decoder": decoder}).load_state_dict(own)
    return encoder.eval(), decoder.eval()


def _refuse(path: Path, **problems: Collection[str]) -> None:
    found = [
        f"{what.replace('_', ' ')}: {', '.join(sorted(names))}"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise CheckpointError(f"{path} does not fit: {'; '.join(found)}")


def _sizes(state: Mapping[str, Tensor], mixer: Mixer, path: Path) -> dict[str, int]:
    """What each letter of the table stands for."""
    layer = f"{ENCODER_LAYERS}0."
    of_heads, head_axis = HEADS[mixer]
    spots = {
        "C1": ("0.convblock_0.convs.conv_0.conv.weight", 0),
        "C2": ("0.convblock_1.convs.conv_0.conv.weight", 0),
        "F1": ("0.convblock_0.convs.norm_0.norm.weight", 0),
        "V": ("3.w.weight", 0),
        "D": ("3.w.weight", 1),
        "N": (f"{layer}ffn_module1.1.ffn.0.weight", 0),
        "W": (f"{layer}convolution_module.conv.weight", 2),
        "H": (layer + of_heads, head_axis),
    }
    empty = {
        f"{name} {tuple(state[name].shape)}"
        for name, axis in spots.values()
        if state[name].dim() <= axis or state[name].shape[axis] == 0
    }
    _refuse(path, of_the_wrong_shape=empty)
    sizes = {letter: state[name].shape[axis] for letter, (name, axis) in spots.items()}
    D, H, N, F2 = sizes["D"], sizes["H"], sizes["N"], sizes["F1"] // 2
    sizes |= {"E": D // H, "K": N // H, "2D": 2 * D, "3D": 3 * D}
    return sizes | {"F2": F2, "P": F2 * sizes["C2"]}


def _build(
    state: Mapping[str, Tensor], mixer: Mixer, sizes: dict[str, int], path: Path
) -> tuple[Encoder, AttentionDecoder]:
    try:
        encoder = EncoderConfig(
            mixer=mixer,
            n_mels=2 * sizes["F1"],
            vocab_size=sizes["V"],
            d_model=sizes["D"],
            n_layers=count_layers(state, ENCODER_LAYERS),
            n_heads=sizes["H"],
            d_ffn=sizes["N"],
            conv_kernel=sizes["W"],
            channels=(sizes["C1"], sizes["C2"]),
        )
        decoder = AttentionDecoderConfig(
            vocab_size=sizes["V"],
            d_model=sizes["D"],
            n_layers=count_layers(state, DECODER_LAYERS),
            n_heads=sizes["H"],  # no shape tells; the recipes have one number for both
            d_ffn=sizes["N"],
        )
    except ConfigError as error:
        raise CheckpointError(f"{path} has sizes that cannot be built: {error}") from error
    return Encoder(encoder), AttentionDecoder(decoder)


def _is_position_code(table: Tensor) -> bool:
    """Whether a dropped tensor, (1, L, D) codes or (D / 2,) rates, is what is computed here."""
    if table.dim() == 1:
        ours = 10_000.0 ** -torch.linspace(0, 1, len(table) + 1)[:-1]
    elif table.dim() == 3 and table.shape[2] % 2 == 0:
        ours = sinusoids(table.shape[1], table.shape[2], table.device)
    else:
        return False
    return torch.allclose(table.float().squeeze(0), ours, atol=0.01)
