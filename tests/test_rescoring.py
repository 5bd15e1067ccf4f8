"""The attention decoder's second look at the texts that the search found."""

import numpy as np
import pytest
import torch
from stand_ins import tiny_checkpoint

from hyperasr.attention_decoder import AttentionDecoder, AttentionDecoderConfig
from hyperasr.checkpoint import load_checkpoint
from hyperasr.decoding import DecodingOptions
from hyperasr.errors import ConfigError
from hyperasr.rescoring import Rescorer
from hyperasr.transcribe import Transcriber
from hyperasr.transcript import Alternative

LETTERS = {"a": [3], "b": [4], "ab": [3, 4]}


def decoder(vocabulary=29, width=16):
    torch.manual_seed(0)
    sizes = AttentionDecoderConfig(vocabulary, d_model=width, n_layers=1, n_heads=4, d_ffn=32)
    return AttentionDecoder(sizes).eval()


def test_scores_are_the_weighted_sum_and_the_best_comes_first():
    attention = decoder()
    rescorer = Rescorer(attention, LETTERS.__getitem__, torch.device("cpu"), ctc_weight=0.4)
    found = [Alternative("a", -1.0), Alternative("b", -2.0), Alternative("ab", -3.0)]
    encoded = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    ranked = rescorer(found, encoded)
    frames = torch.from_numpy(encoded)[None]
    with torch.inference_mode():
        second = attention.score(frames, torch.tensor([9]), [[3], [4], [3, 4]]).tolist()
    expected = {a.text: 0.4 * a.score + 0.6 * s for a, s in zip(found, second, strict=True)}
    assert {a.text: a.score for a in ranked} == pytest.approx(expected)
    assert [a.score for a in ranked] == sorted(expected.values(), reverse=True)


def test_the_search_alone_decides_when_the_decoder_has_no_weight():
    rescorer = Rescorer(decoder(), LETTERS.__getitem__, torch.device("cpu"), ctc_weight=1.0)
    found = [Alternative("a", -1.0), Alternative("b", -2.0)]
    assert rescorer(found, np.zeros((4, 16), np.float32)) == found


def test_what_the_decoder_likes_best_is_transcribed_and_words_keep_their_times(tmp_path):
    folder = tiny_checkpoint(tmp_path / "tiny", decoder=decoder())
    checkpoint = load_checkpoint(folder)
    plain = Transcriber(checkpoint, decoding=DecodingOptions(nbest=16))
    rescoring = Transcriber(checkpoint, decoding=DecodingOptions(nbest=3, rescore="attention"))
    samples = np.random.default_rng(0).normal(size=48_000).astype(np.float32)
    found = [plain.decoder(utterance.log_probs) for utterance in _heard(plain, samples)]
    again = list(rescoring.decode_all(_heard(rescoring, samples)))
    assert len(found) == len(again) > 0
    for before, after in zip(found, again, strict=True):
        assert after.text in {alternative.text for alternative in before.alternatives}
        assert after.text == after.alternatives[0].text
        assert len(after.alternatives) <= 3
        assert [word.text for word in after.words] == after.text.split()


def _heard(transcriber, samples):
    from hyperasr.windows import Window, stitch, utterances

    windows = transcriber.listen_to_all([Window(0, samples)])
    return list(utterances(stitch(windows), transcriber.silent))


def test_a_model_without_a_decoder_says_so(tmp_path):
    with pytest.raises(ConfigError, match="no attention decoder to rescore with"):
        Transcriber.load(
            tiny_checkpoint(tmp_path / "tiny"), decoding=DecodingOptions(rescore="attention")
        )


def test_an_unknown_way_to_rescore_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'lstm' is not known: attention or none"):
        Transcriber.load(
            tiny_checkpoint(tmp_path / "tiny"), decoding=DecodingOptions(rescore="lstm")
        )
