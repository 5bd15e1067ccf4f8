"""Imported models give the answers they gave in the toolkit they were trained with.

These tests run the reference itself, from the PyPI package speechbrain, and are skipped where it
is not installed; test_importers_folders.py needs no more than its names.
"""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import sentencepiece
import torch
from conftest import SPEECH
from foreign import Reference, release, tokenizer

from hyperasr import audio
from hyperasr.checkpoint import load_checkpoint
from hyperasr.decoder import greedy
from hyperasr.errors import CheckpointError
from hyperasr.importers.speechbrain import import_folder

# Not imported while tests are collected: hypothesis then looks into every module, and those that
# speechbrain loads lazily warn when looked at.
pytestmark = pytest.mark.skipif(
    find_spec("speechbrain") is None, reason="needs the reference, the package speechbrain"
)


@pytest.fixture(scope="module", autouse=True)
def forget_the_reference():
    """Afterwards: hypothesis looks into every loaded module, and speechbrain's lazy ones warn."""
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "speechbrain"]:
        del sys.modules[name]


MIXERS = {"hyperconformer": "hypermixing", "conformer": "RelPosMHAXL"}
SIZES = {"8m": {"d_model": 144, "d_ffn": 576}, "22m": {"d_model": 256, "d_ffn": 1024}}
SECONDS = {  # 101, 334, 1236, 3001 feature frames: 1, 2, 0 and 1 more than a multiple of 4
    "hyperconformer-8m": (1.0, 3.337, 12.35, 30.0),
    "conformer-8m": (1.0, 3.337, 12.35, 30.0),
    "hyperconformer-22m": (1.013, 5.02, 30.0),
    "conformer-22m": (1.013, 5.02, 30.0),
}


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    """31 seconds: real speech where the corpora are, else tones that come and go in noise."""
    folder = SPEECH / "librispeech" / "1673"
    if folder.is_dir():
        return np.concatenate([audio.read(path) for path in sorted(folder.iterdir())[:4]])
    time = np.arange(31 * 16_000) / 16_000
    sway = 20 * np.sin(3 * time)
    tones = sum(np.sin(2 * np.pi * hertz * time + sway) for hertz in (90, 410, 1700))
    noise = np.random.default_rng(0).normal(0, 0.02, len(time))
    return (0.1 * tones * np.sin(9 * time) ** 4 + noise).astype(np.float32)


@pytest.mark.timeout(600)  # 12 s of computing in all; shared machines stall
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize("name", SECONDS)
@torch.no_grad()
def test_an_imported_model_answers_as_the_reference(name, tmp_path, signal):
    kind, size = name.split("-")
    reference = Reference(MIXERS[kind], **SIZES[size])
    reference.listen(signal[:80_000])
    import_folder(reference.save(tmp_path / "results"), tmp_path / name)
    ours = load_checkpoint(tmp_path / name)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer())
    tokens = torch.tensor([[1, *pieces.EncodeAsIds("BACE DIFO GU LOMUNA TA")]])
    for seconds in SECONDS[name]:
        waveform = np.ascontiguousarray(signal[: round(seconds * 16_000)])
        decibels, features, ctc, attention = reference(waveform, tokens)
        samples, number = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])

        close(ours.features.decibels(samples, number)[0], decibels, 1e-4)  # of 80 dB
        frames, counts = ours.features(samples, number)
        close(frames, features, 1e-5)

        *_, hidden = ours.encoder.hidden(frames, counts)
        log_probs = ours.encoder.log_probs(hidden)
        close(log_probs, ctc, 1e-4)
        words = [word.text for word in greedy(log_probs[0].numpy(), ours.tokens.labels)]
        assert words == best_path(ctc[0], pieces)
        assert len("".join(words)) > 4  # or nothing was compared

        heard, sizes = ours.encoder.norm(hidden), ours.encoder.output_lengths(counts)
        answer = ours.decoder(heard, sizes, tokens, torch.tensor([tokens.shape[1]]))
        close(answer, attention, 1e-4)
        following = torch.cat([tokens[0, 1:], torch.tensor([2])])  # the end last
        expected = attention[0].gather(1, following[:, None]).sum()
        close(ours.decoder.score(heard, sizes, tokens[:, 1:].tolist())[0], expected, 1e-3)


def close(ours, theirs, tolerance) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def best_path(log_probs, pieces) -> list[str]:
    """What the reference's tokenizer makes of the likeliest tokens."""
    ids = torch.unique_consecutive(log_probs.argmax(dim=-1)).tolist()
    return pieces.DecodeIds([i for i in ids if i != 0]).split()


@pytest.mark.parametrize(
    ("encoder", "attention", "reason"),
    [
        ("transformer", "regularMHA", "without the Conformer's convolutions"),
        ("transformer", "hypermixing", "without the Conformer's convolutions"),
        ("branchformer", "RelPosMHAXL", "Branchformer"),
        ("branchformer", "hypermixing", "Branchformer"),
        ("conformer", "regularMHA", "regularMHA"),
        ("conformer", "RoPEMHA", "another kind of model"),
    ],
)
def test_the_references_other_encoders_are_refused(tmp_path, encoder, attention, reason):
    from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR

    model = TransformerASR(
        9, 640, 16, 2, 1, 1, 32, encoder_module=encoder, attention_type=attention,
        normalize_before=True, causal=False, csgu_linear_units=16,
    )  # fmt: skip
    state = {f"1.{name}": tensor for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=reason):
        import_folder(release(tmp_path / "other", state), tmp_path / "imported")
