"""Which files of a SpeechBrain folder are read, what becomes of them, and what is refused."""

import os
import re

import numpy as np
import pytest
import soundfile
import torch
from foreign import STATISTICS, VOCABULARY, release, tokenizer, weights

from hyperasr.checkpoint import load_checkpoint
from hyperasr.errors import CheckpointError, OutputError
from hyperasr.importers.speechbrain import import_folder
from hyperasr.importers.speechbrain_names import table
from hyperasr.transcribe import Transcriber


def refused(folder, tmp_path) -> str:
    """The reason; whatever it is, nothing may be left behind."""
    with pytest.raises(CheckpointError) as error:
        import_folder(folder, tmp_path / "out" / "model")
    assert not list(tmp_path.glob("out/*"))
    assert str(folder) in str(error.value)
    return str(error.value)


# What becomes of it


@pytest.mark.parametrize("mixer", ["hypermixing", "attention"])
def test_the_table_names_every_tensor_once_on_either_side(mixer):
    rules = list(table(weights(mixer), mixer))
    theirs = [name for names, _, _ in rules for name in names]
    ours = [name for _, _, names in rules for name in names]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
    assert set(theirs) == set(weights(mixer))


@pytest.mark.parametrize("mixer", ["hypermixing", "attention"])
def test_a_release_becomes_a_checkpoint_that_transcribes(tmp_path, mixer):
    said: list[str] = []
    import_folder(release(tmp_path / "hub", weights(mixer)), tmp_path / "small", said.append)
    assert said[0] == f"weights: {tmp_path}/hub/model.ckpt"
    assert "2 blocks of width 8 with 2 heads, a decoder of 2 layers, 90 tokens" in said[1]

    checkpoint = load_checkpoint(tmp_path / "small")
    assert checkpoint.encoder.config.mixer == mixer
    assert checkpoint.encoder.config.channels == (4, 3)
    assert (checkpoint.encoder.config.n_heads, checkpoint.decoder.config.n_heads) == (2, 2)
    assert checkpoint.features.mean[7] == -40.0
    assert checkpoint.features.std[7] == 9.0
    card = (tmp_path / "small" / "README.md").read_text()
    assert "hub/model.ckpt" in card
    assert "licence" in card

    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    assert Transcriber(checkpoint)(tmp_path / "a.wav").duration == pytest.approx(2.0)


def test_weights_kept_in_half_precision_are_read_as_they_are(tmp_path):
    state = {name: tensor.half() for name, tensor in weights().items()}
    import_folder(release(tmp_path / "hub", state), tmp_path / "small")
    bias = load_checkpoint(tmp_path / "small").encoder.ctc.bias
    torch.testing.assert_close(bias.data, state["3.w.bias"].float(), rtol=0, atol=0)


def test_position_codes_are_dropped_if_they_are_what_is_computed_here(tmp_path):
    angles = torch.arange(3000.0)[:, None] / 10_000 ** (torch.arange(0, 8, 2) / 8)
    codes = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None]
    rates = {"1.positional_encoding.inv_freq": 10_000 ** -(torch.arange(0, 8, 2) / 8)}
    names = [
        "1.positional_encoding_decoder.pe",
        "1.encoder.layers.1.mha_layer.positional_encoding.pe",
    ]
    state = weights() | dict.fromkeys(names, codes) | rates
    import_folder(release(tmp_path / "hub", state), tmp_path / "small")

    state[names[1]] = codes.roll(1, dims=1)
    reason = refused(release(tmp_path / "other", state), tmp_path)
    assert reason.endswith(f"not our position codes: {names[1]}")


def test_the_spelling_of_old_releases_is_known(tmp_path):
    state = {name.replace("multihead", "mutihead"): t for name, t in weights().items()}
    folder = release(tmp_path / "hub", state)
    (folder / "model.ckpt").rename(folder / "asr.ckpt")
    import_folder(folder, tmp_path / "small")


OLD = {"spk_dict_mean": {3: torch.zeros(80)}, "spk_dict_std": {}, "spk_dict_count": {3: 1}}


@pytest.mark.parametrize(
    "statistics",
    [
        STATISTICS,
        STATISTICS | OLD,
        {
            "count": torch.tensor(9),
            "glob_mean": torch.full((1, 80), -40.0),
            "glob_std": STATISTICS["glob_std"],
        },
    ],
    ids=["new", "old", "state dict"],
)
def test_every_published_form_of_the_statistics_is_read(tmp_path, statistics):
    import_folder(release(tmp_path / "hub", statistics=statistics), tmp_path / "small")
    features = load_checkpoint(tmp_path / "small").features
    torch.testing.assert_close(features.mean, STATISTICS["glob_mean"])
    torch.testing.assert_close(features.std, STATISTICS["glob_std"])


@pytest.mark.parametrize(
    "statistics",
    [
        [],
        {"count": 0, "glob_mean": torch.empty(0), "glob_std": torch.empty(0)},
        {"glob_mean": STATISTICS["glob_mean"]},
        STATISTICS | {"glob_std": torch.full((80,), torch.inf)},
    ],
)
def test_statistics_that_are_none_are_refused(tmp_path, statistics):
    reason = refused(release(tmp_path / "hub", statistics=statistics), tmp_path)
    assert re.search(r"normalizer.ckpt.* glob_(mean|std)", reason)


# Which files


def training(folder, notes):
    """A training folder with a model per name; each model's head bias is its number."""
    save = folder / "save"
    save.mkdir(parents=True)
    (save / "tokenizer.ckpt").write_bytes(tokenizer())
    for number, (name, lines) in enumerate(notes.items()):
        state = weights() | {"3.w.bias": torch.full((VOCABULARY,), float(number))}
        release(save / name, state)
        (save / name / "tokenizer.ckpt").unlink()
        text = "".join(f"{key}: {value}\n" for key, value in lines.items())
        (save / name / "CKPT.yaml").write_text(f"# yamllint disable\n{text}end-of-epoch: true\n")
    return folder


@pytest.mark.parametrize(
    ("notes", "chosen", "why"),
    [
        ([{"ACC": 0.8}, {"ACC": 0.9}, {"ACC": 0.85}], 1, "ACC 0.9, the best of 3"),
        ([{"ACC": 9.5e-1}, {"unixtime": 9e9}, {"ACC": 0.9, "WER": 1}], 0, "ACC 0.95"),
        ([{"WER": 4.5, "unixtime": 2}, {"WER": 4.25, "unixtime": 1}], 1, "WER 4.25"),
        ([{"ACC": 0.9, "unixtime": 5.5}, {"ACC": 0.9, "unixtime": 5.25}], 0, "ACC 0.9"),
        ([{"unixtime": 1.5}, {"unixtime": 3.5e9}, {"unixtime": 2.5}], 1, "newest of 3"),
        ([{}, {}], 1, "newest of 2"),
        ([{"ACC": ".nan", "unixtime": 2}, {"ACC": "!!python/name:x", "unixtime": 1}], 0, "newest"),
    ],
)
def test_the_best_saved_model_is_taken_else_the_newest(tmp_path, notes, chosen, why):
    days = {f"CKPT+2026-01-0{day}+10-00-00+00": lines for day, lines in enumerate(notes, 1)}
    said: list[str] = []
    import_folder(training(tmp_path / "run", days), tmp_path / "small", said.append)
    assert load_checkpoint(tmp_path / "small").encoder.ctc.bias[5] == chosen
    assert why in said[0]
    assert list(days)[chosen] in said[0]


@pytest.mark.parametrize("where", ["", "save", "save/CKPT+best"])
def test_a_training_folder_can_be_given_at_any_level(tmp_path, where, monkeypatch):
    training(tmp_path / "run", {"CKPT+best": {"ACC": 1.1}})
    import_folder(tmp_path / "run" / where, tmp_path / "small")
    monkeypatch.chdir(tmp_path / "run" / where)
    import_folder(type(tmp_path)(), tmp_path / "from within")
    assert load_checkpoint(tmp_path / "from within").tokens.labels[0] == ""


def test_an_empty_folder_and_none_at_all_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no model of SpeechBrain" in refused(tmp_path / "empty", tmp_path)
    assert "no such folder" in refused(tmp_path / "nowhere", tmp_path)


def test_companions_that_are_missing_are_named_together(tmp_path):
    folder = release(tmp_path / "hub")
    (folder / "normalizer.ckpt").unlink()
    (tmp_path / "tokenizer.ckpt").write_bytes(b"of something else: not to be found")
    (folder / "tokenizer.ckpt").unlink()
    assert "normalizer.ckpt and tokenizer.ckpt not found" in refused(folder, tmp_path)


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    heads = {n: t[:-1] for n, t in weights().items() if t.shape[0] == VOCABULARY}
    reason = refused(release(tmp_path / "hub", weights() | heads), tmp_path)
    assert reason.endswith("tokenizer.ckpt has 90 tokens, the model 89")


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("years of work")
    with pytest.raises(OutputError, match="choose another folder"):
        import_folder(release(tmp_path / "hub"), tmp_path / "thesis")
    assert os.listdir(tmp_path / "thesis") == ["text"]


HYPERPARAMS = """\
sample_rate: 16000  # Hz
n_fft: 400
activation: &id001 !name:torch.nn.GELU
bos_index: 1
boom: !!python/object/apply:os.system ["touch ran"]
Transformer: &id003 !new:speechbrain.lobes.models.transformer.TransformerASR.TransformerASR
                                                              # yamllint disable-line
  activation: *id001
  normalize_before: true
  causal: false

lm_model: !new:speechbrain.lobes.models.transformer.TransformerLM.TransformerLM
  normalize_before: false
  causal: true
"""


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("sample_rate: 16000", "sample_rate: 8000"),
        ("n_fft: 400", "n_fft: 512"),
        ("!name:torch.nn.GELU", "!name:torch.nn.ReLU"),
        ("bos_index: 1", "bos_index: 11"),
        ("  normalize_before: true", "  normalize_before: false"),
        ("  causal: false", "  causal: True"),
    ],
)
def test_hyperparams_are_read_as_text_and_may_only_forbid(tmp_path, monkeypatch, good, bad):
    monkeypatch.chdir(tmp_path)
    folder = release(tmp_path / "hub")
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS)
    import_folder(folder, tmp_path / "small")
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS.replace(good, bad, 1))
    reason = refused(folder, tmp_path)
    assert reason.startswith(f"{folder}/hyperparams.yaml: hyperasr does not compute ")
    assert bad.split(": ")[-1] in reason
    assert not (tmp_path / "ran").exists()


def test_a_section_without_a_setting_does_not_borrow_the_next_ones(tmp_path):
    folder = release(tmp_path / "hub")
    text = HYPERPARAMS.replace("  normalize_before: true\n", "").replace("  causal: false\n", "")
    (folder / "hyperparams.yaml").write_text(text)
    import_folder(folder, tmp_path / "small")


# What is refused in the files


class Payload:
    """Pickles to a call of `touch path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("file", ["model.ckpt", "normalizer.ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, file, zipped):
    folder, good = release(tmp_path / "hub"), weights() if file == "model.ckpt" else STATISTICS
    bomb = good | {"3.w.bias": Payload(tmp_path / "ran")}
    torch.save(bomb, folder / file, _use_new_zipfile_serialization=zipped)
    reason = refused(folder, tmp_path)
    assert re.search(rf"{file} is not a file of plain tensors: it asks to run \w+\.system$", reason)
    assert not (tmp_path / "ran").exists()
    torch.load(folder / file, weights_only=False)  # the bomb is one
    assert (tmp_path / "ran").exists()


def test_every_missing_and_every_unknown_tensor_is_named(tmp_path):
    gone = [
        "0.convblock_1.convs.conv_0.conv.bias",
        "1.encoder.layers.1.norm2.norm.weight",
        "3.w.bias",
    ]
    state = {name: tensor for name, tensor in weights().items() if name not in gone}
    state |= {"4.w.bias": torch.zeros(3), "1.encoder.layers.0.extra": torch.zeros(3)}
    reason = refused(release(tmp_path / "hub", state), tmp_path)
    assert reason.endswith(
        f"missing: {', '.join(gone)}; unknown: 1.encoder.layers.0.extra, 4.w.bias"
    )


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_layer_left_out_is_noticed(tmp_path, part):
    state = {n.replace(f"1.{part}.layers.1", f"1.{part}.layers.7"): t for n, t in weights().items()}
    reason = refused(release(tmp_path / "hub", state), tmp_path)
    assert f"missing: 1.{part}.layers.1." in reason
    assert f"unknown: 1.{part}.layers.7." in reason


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("1.encoder.layers.1.mha_layer.hyper.w2_gen.fc2_weights", (2, 4, 8)),
        ("0.convblock_1.convs.conv_0.conv.weight", (3, 4, 5, 5)),
        ("1.decoder.layers.0.self_attn.att.in_proj_weight", (16, 8)),
        ("2.w.weight", (VOCABULARY + 1, 8)),
        ("3.w.weight", (VOCABULARY,)),
        ("1.encoder.layers.0.mha_layer.hyper.w1_gen.fc1_weights", (0, 4, 4)),
    ],
)
def test_a_tensor_of_another_shape_is_named(tmp_path, name, shape):
    reason = refused(release(tmp_path / "hub", weights() | {name: torch.zeros(shape)}), tmp_path)
    assert f"of the wrong shape: {name} {shape}" in reason


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    state = weights()
    state["2.w.weight"][3, 3] = torch.nan
    assert "not finite: 2.w.weight" in refused(release(tmp_path / "hub", state), tmp_path)


def test_sizes_that_cannot_be_built_are_refused(tmp_path):
    state = {name: t[..., :30] if t.shape[-1] == 31 else t for name, t in weights().items()}
    assert "conv_kernel=30" in refused(release(tmp_path / "hub", state), tmp_path)


OTHER_MODELS = {
    "Branchformer": "1.encoder.layers.0.convolution_branch.csgu.norm.norm.weight",
    "without the Conformer's convolutions": "1.encoder.layers.0.self_att.att.in_proj_weight",
    "regularMHA": "1.encoder.layers.0.mha_layer.att.in_proj_weight",
    "wav2vec": "0.model.feature_extractor.conv_layers.0.conv.weight",
    "it has 0.block.weight": "0.block.weight",
}


@pytest.mark.parametrize("reason", OTHER_MODELS)
def test_other_architectures_are_refused_with_the_reason(tmp_path, reason):
    state = {OTHER_MODELS[reason]: torch.zeros(3, 3)}
    assert reason in refused(release(tmp_path / "hub", state), tmp_path)


@pytest.mark.parametrize("what", [[1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3), {}])
def test_a_file_without_named_tensors_is_refused(tmp_path, what):
    assert "model.ckpt" in refused(release(tmp_path / "hub", what), tmp_path)


@pytest.mark.parametrize("file", ["model.ckpt", "normalizer.ckpt", "tokenizer.ckpt"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_damaged_file_is_refused(tmp_path, file, kept):
    path = release(tmp_path / "hub") / file
    blob = path.read_bytes()
    path.write_bytes(blob[: int(kept * len(blob))])
    assert file in refused(path.parent, tmp_path)
