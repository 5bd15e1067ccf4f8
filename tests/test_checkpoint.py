"""What a checkpoint folder promises: exact round trips, a clear error for each kind of harm."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from stand_ins import TINY, tiny_checkpoint

from hyperasr.attention_decoder import AttentionDecoder, AttentionDecoderConfig
from hyperasr.checkpoint import load_checkpoint, save_checkpoint
from hyperasr.encoder import Encoder
from hyperasr.errors import CheckpointError, OutputError
from hyperasr.features import LogMel
from hyperasr.folder import find_checkpoint
from hyperasr.tokens import CharTokens


@pytest.fixture
def folder(tmp_path):
    return tiny_checkpoint(tmp_path / "tiny")


def parts(seed=1):
    """An encoder, features and tokens, no number in them at its starting value."""
    torch.manual_seed(seed)
    encoder, features = Encoder(TINY), LogMel()
    for tensor in [*encoder.parameters(), features.mean, features.std]:
        tensor.data += torch.randn_like(tensor)
    return encoder, features, CharTokens()


def state(encoder, features):
    return torch.nn.ModuleDict({"encoder": encoder, "features": features}).state_dict()


def edit_config(folder, **changes):
    """Write `changes` into config.json; None takes an entry out."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_encoder(folder, **changes):
    edit_config(
        folder, encoder=json.loads((folder / "config.json").read_text())["encoder"] | changes
    )


def replace_weights(folder, data):
    """Put `data` in place of the weights, with its digest, as a malicious sender would."""
    (folder / "model.safetensors").write_bytes(data)
    edit_config(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Round trips.


def test_float32_comes_back_exactly(tmp_path):
    encoder, features, tokens = parts()
    save_checkpoint(tmp_path / "mine", encoder, features, tokens)
    loaded = load_checkpoint(tmp_path / "mine")
    before, after = state(encoder, features), state(loaded.encoder, loaded.features)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (loaded.encoder.config, loaded.features.config) == (TINY, features.config)
    assert loaded.tokens.labels == tokens.labels
    assert loaded.name == "mine"
    weights = (tmp_path / "mine" / "model.safetensors").read_bytes()
    assert loaded.sha256 == hashlib.sha256(weights).hexdigest()


def test_float16_comes_back_within_its_rounding_and_as_float32(tmp_path):
    encoder, features, tokens = parts()
    save_checkpoint(tmp_path / "half", encoder, features, tokens, half=True)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    loaded = load_checkpoint(tmp_path / "half")
    after = state(loaded.encoder, loaded.features)
    for name, before in state(encoder, features).items():
        assert after[name].dtype == torch.float32
        torch.testing.assert_close(after[name], before, rtol=2**-11, atol=2**-25)


def test_a_loaded_model_gives_the_same_log_probabilities(tmp_path):
    encoder, features, tokens = parts()
    save_checkpoint(tmp_path / "mine", encoder, features, tokens)
    loaded = load_checkpoint(tmp_path / "mine")
    waveforms, lengths = 0.1 * torch.randn(2, 8000), torch.tensor([8000, 5000])
    with torch.inference_mode():
        expected, _ = encoder.eval()(*features(waveforms, lengths))
        log_probs, _ = loaded.encoder(*loaded.features(waveforms, lengths))
    assert torch.equal(log_probs, expected)


def test_a_loaded_model_is_ready_to_run_and_not_to_train(folder):
    loaded = load_checkpoint(folder)
    assert not any(module.training for module in loaded.encoder.modules())
    assert not any(parameter.requires_grad for parameter in loaded.encoder.parameters())


def test_saving_leaves_the_model_in_training_as_it_was(tmp_path):
    encoder, features, tokens = parts()
    encoder.train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    save_checkpoint(tmp_path / "mine", encoder, features, tokens, half=True)
    assert all(module.training for module in encoder.modules())
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert all(torch.equal(before[name], now) for name, now in encoder.state_dict().items())


def save_with_decoder(folder):
    decoder = AttentionDecoder(AttentionDecoderConfig(29, d_model=16, n_layers=1, d_ffn=32))
    save_checkpoint(folder, *parts(), decoder=decoder)
    return decoder


def test_a_decoder_comes_back_exactly_and_ready_to_run(tmp_path):
    before = save_with_decoder(tmp_path / "two").state_dict()
    after = load_checkpoint(tmp_path / "two").decoder
    assert not after.training
    assert before.keys() == after.state_dict().keys()
    assert all(torch.equal(before[name], now) for name, now in after.state_dict().items())


def test_a_decoder_is_dropped_with_the_encoder_that_it_belonged_to(tmp_path):
    save_with_decoder(tmp_path / "two")
    save_checkpoint(tmp_path / "two", *parts())
    assert sorted(contents(tmp_path / "two")) == ["config.json", "model.safetensors"]
    assert load_checkpoint(tmp_path / "two").decoder is None


# Harm.


def test_every_tensor_that_is_missing_or_unexpected_or_of_another_shape_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    missing = ["encoder.blocks.1.norm.weight", "features.mean"]
    misshaped = {"encoder.ctc.bias": (28,), "features.std": (1, 80)}
    unexpected = ["encoder.blocks.2.norm.weight", "optimizer"]
    for name in missing:
        del weights[name]
    weights |= {name: torch.zeros(shape) for name, shape in misshaped.items()}
    weights |= {name: torch.zeros(1) for name in unexpected}
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert str(caught.value) == (
        f"{folder}/model.safetensors does not fit: "
        "missing: encoder.blocks.1.norm.weight, features.mean; "
        "unexpected: encoder.blocks.2.norm.weight, optimizer; "
        "of the wrong shape: encoder.ctc.bias (28,) instead of (29,), "
        "features.std (1, 80) instead of (80,)"
    )


def test_no_tensor_can_be_left_out_unnoticed(folder):
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        save_file({n: w for n, w in weights.items() if n != name}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=f"missing: {name}$"):
            load_checkpoint(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_are_refused(folder, kept):
    data = (folder / "model.safetensors").read_bytes()
    replace_weights(folder, data[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_checkpoint(folder)


def test_weights_that_are_not_there_are_missed(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"tiny lacks model\.safetensors"):
        load_checkpoint(folder)


def test_harm_to_the_decoder_is_noticed_like_harm_to_the_encoder(folder):
    save_with_decoder(folder)
    path = folder / "decoder.safetensors"
    weights = load_file(path)
    save_file({name: w for name, w in weights.items() if name != "norm.weight"}, path)
    with pytest.raises(CheckpointError, match=r"decoder\.safetensors does not .* norm\.weight$"):
        load_checkpoint(folder)
    save_file({name: 2 * w for name, w in weights.items()}, path)
    with pytest.raises(CheckpointError, match=r"decoder\.safetensors is not the file"):
        load_checkpoint(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"tiny lacks decoder\.safetensors"):
        load_checkpoint(folder)


@pytest.mark.parametrize("digest", ["0" * 64, None])
def test_weights_that_are_not_those_of_the_config_are_refused(folder, digest):
    edit_config(folder, weights_sha256=digest)
    with pytest.raises(
        CheckpointError, match=r"is not the file that config\.json was written with"
    ):
        load_checkpoint(folder)


def test_one_flipped_bit_is_noticed(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="copy the folder again"):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "\x00", "{'format': 1}"])
def test_a_config_that_is_no_json_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["[]", "1", "null", "{}", '{"format": 2}', '{"format": "1"}'])
def test_a_config_of_another_format_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="is not of checkpoint format 1"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": None},
        {"encoder": {}},
        {"features": None},
        {"features": {"hop": 0}},
        {"tokens": None},
        {"tokens": {"type": "magic"}},
        {"tokens": {"type": "characters", "alphabet": 3}},
        {"tokens": []},
    ],
    ids=str,
)
def test_a_config_that_describes_no_model_is_refused(folder, change):
    edit_config(folder, **change)
    with pytest.raises(
        CheckpointError, match=r"tiny/config\.json (does not describe a|describes no)"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_heads": 3},
        {"conv_kernel": 4},
        {"mixer": "magic"},
        {"channels": 4},
        {"channels": [4, 4, 4]},
        {"d_model": "wide"},
        {"n_layers": 3},
        {"n_heads": 0},
        {"d_ffn": -32},
    ],
    ids=str,
)
def test_encoder_sizes_that_cannot_be_or_do_not_fit_are_refused(folder, sizes):
    edit_encoder(folder, **sizes)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_a_vocabulary_of_another_size_than_the_encoder_is_refused(folder):
    edit_encoder(folder, vocab_size=30)
    with pytest.raises(CheckpointError, match="vocabulary has 29 tokens, the encoder 30"):
        load_checkpoint(folder)


class Trap:
    """An object whose unpickling leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_opening_runs_nothing_that_hides_in_the_weights(folder, tmp_path):
    trap = Trap(tmp_path / "trace")
    replace_weights(folder, pickle.dumps(trap))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_checkpoint(folder)
    assert not trap.trace.exists()
    pickle.loads(pickle.dumps(trap))
    assert trap.trace.exists()  # it does snap where something is unpickled


# Saving over something.


def test_a_folder_that_is_no_checkpoint_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(OutputError, match="thesis exists and is no checkpoint"):
        save_checkpoint(tmp_path / "thesis", *parts())
    assert contents(tmp_path / "thesis") == {"chapter.txt": b"years of work"}
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_what_a_killed_process_left_does_not_stop_another_of_its_number(tmp_path):
    """In a container every start has the same."""
    (tmp_path / f".mine.{os.getpid()}.partial").mkdir()
    save_checkpoint(tmp_path / "mine", *parts())
    assert "config.json" in contents(tmp_path / "mine")


def test_a_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis").write_text("years of work")
    with pytest.raises(OutputError, match="thesis exists and is no checkpoint"):
        save_checkpoint(tmp_path / "thesis", *parts())


def test_an_empty_folder_is_filled_and_a_missing_parent_made(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "deep" / "er" / "mine"):
        save_checkpoint(folder, *parts())
        assert sorted(contents(folder)) == ["config.json", "model.safetensors"]
        assert [path.name for path in folder.parent.glob(".*")] == []


def test_replacing_keeps_what_else_was_there(folder):
    (folder / "README.md").write_text("a card")
    (folder / "lm.arpa").write_text("a language model")
    encoder, features, tokens = parts()
    save_checkpoint(folder, encoder, features, tokens)
    assert sorted(contents(folder)) == ["README.md", "config.json", "lm.arpa", "model.safetensors"]
    assert (folder / "README.md").read_text() == "a card"
    assert (folder / "lm.arpa").read_text() == "a language model"
    assert torch.equal(load_checkpoint(folder).encoder.ctc.weight, encoder.ctc.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_new_card_replaces_the_old_one(folder):
    save_checkpoint(folder, *parts(), card="first\n")
    save_checkpoint(folder, *parts(), card="später\n")
    assert (folder / "README.md").read_text(encoding="utf-8") == "später\n"


def test_replacing_keeps_a_folder_that_was_there(folder):
    (folder / "lm").mkdir()
    (folder / "lm" / "words.arpa").write_text("a language model")
    save_checkpoint(folder, *parts())
    assert (folder / "lm").is_dir()


def fail(*args, **kwargs):
    raise OSError("disk full")


def break_weights(monkeypatch):
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: (write(self, data[:99]), fail()))


def break_config(monkeypatch):
    monkeypatch.setattr(Path, "write_text", fail)


def break_copying(monkeypatch):
    monkeypatch.setattr(shutil, "copy2", fail)


def break_the_last_move(monkeypatch):
    rename = Path.rename
    moves = []

    def second_fails(self, target):
        moves.append(target)
        return fail() if len(moves) == 2 else rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)


@pytest.mark.parametrize(
    "harm",
    [break_weights, break_copying, break_the_last_move],
)
def test_a_failure_midway_leaves_the_old_checkpoint_and_nothing_else(folder, monkeypatch, harm):
    (folder / "lm.arpa").write_text("a language model")
    before = contents(folder)
    with monkeypatch.context() as broken:
        harm(broken)
        with pytest.raises(OSError, match="disk full"):
            save_checkpoint(folder, *parts())
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert contents(folder) == before
    load_checkpoint(folder)


def test_a_failure_of_the_first_save_leaves_nothing(tmp_path, monkeypatch):
    break_weights(monkeypatch)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path / "new", *parts())
    assert list(tmp_path.iterdir()) == []


# Finding.


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """An installation that came with two checkpoints and a stray folder."""
    home = tmp_path / "installed"
    for name in ("small-en", "large-en"):
        tiny_checkpoint(home / "checkpoints" / name)
    (home / "checkpoints" / "unfinished").mkdir()
    monkeypatch.setattr("hyperasr.folder.__file__", str(home / "hyperasr" / "folder.py"))
    return home / "checkpoints"


def test_a_checkpoint_is_found_by_its_folder(folder, bundled):
    assert find_checkpoint(folder) == folder
    assert find_checkpoint(str(folder)) == folder


def test_a_checkpoint_that_came_along_is_found_by_its_name(bundled, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("small-en").samefile(bundled / "small-en")
    assert load_checkpoint("large-en").name == "large-en"


def test_an_unknown_name_lists_those_that_came_along(bundled):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("medium-en")
    assert str(caught.value) == (
        "medium-en: no such checkpoint folder; bundled models: large-en, small-en"
    )


def test_a_folder_that_is_no_checkpoint_is_said_to_lack_a_config(bundled, tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json in it; bundled models: large-en"):
        find_checkpoint(tmp_path)
