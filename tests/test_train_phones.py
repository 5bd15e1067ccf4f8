"""Phones of a pronouncing dictionary, which a middle block may learn to hear."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import check_same, config_of, metrics
from training import tiny_models as tiny_models
from training import tones as tones

from hyperasr.checkpoint import load_checkpoint
from hyperasr.errors import ConfigError
from hyperasr.train.batches import Batch
from hyperasr.train.loop import Trainer
from hyperasr.train.losses import _phone_ctc
from hyperasr.train.phones import Pronunciations

WORDS = """;;; two forms of the same entries
A  AH0
CAT 1 K AE1 T
DOG  D AO1 G
HORSE 1 HH AO1 R S
READ(1)  R EH1 D
READ(2)  R IY1 D
D'ARTE 1 D AA1 R T # foreign
ROSES 1 R OW1 Z IH0 Z
"""


@pytest.fixture
def words(tmp_path):
    (tmp_path / "words.dict").write_text(WORDS)
    return Pronunciations(tmp_path / "words.dict")


def spelled(words: Pronunciations, text: str) -> str | None:
    ids = words.encode(text)
    names = {number: phone for phone, number in words.ids.items()}
    return None if ids is None else " ".join(names[number] for number in ids)


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("a cat", "AH K AE T"),
        ("Read", "R EH D"),
        ("d'arte", "D AA R T"),
        ("cat's", "K AE T S"),
        ("dog's", "D AO G Z"),
        ("horse's", "HH AO R S IH Z"),
        ("", ""),
        ("a bird", None),
        ("bird's", None),
    ],
)
def test_words_sound_as_the_dictionary_says(words, text, phones):
    assert spelled(words, text) == phones


def test_ids_leave_room_for_the_blank(words):
    assert sorted(words.ids.values()) == list(range(1, len(words.ids) + 1))


@given(st.lists(st.sampled_from(["a", "cat", "dog", "roses", "bird"]), max_size=6))
def test_a_text_is_the_sum_of_its_words(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "words.dict"
    path.write_text(WORDS)
    words = Pronunciations(path)
    each = [words.encode(text) for text in texts]
    expected = None if None in each else [phone for one in each for phone in one]
    assert words.encode(" ".join(texts)) == expected


def test_what_is_no_dictionary_is_refused_by_name(tmp_path):
    (tmp_path / "prose.txt").write_text("once\nupon\n")
    with pytest.raises(ConfigError, match=r"prose\.txt: no pronouncing dictionary"):
        Pronunciations(tmp_path / "prose.txt")
    with pytest.raises(ConfigError, match=r"nowhere\.txt: no such file"):
        Pronunciations(tmp_path / "nowhere.txt")


def test_utterances_whose_phones_are_not_known_do_not_count():
    log_probs = torch.randn(2, 8, 5).log_softmax(2)
    sizes = torch.tensor([8, 8])
    both = torch.tensor([1, 2, 3]), torch.tensor([3, 0])
    alone = _phone_ctc(log_probs[:1], sizes[:1], (both[0], both[1][:1]))
    torch.testing.assert_close(_phone_ctc(log_probs, sizes, both), alone)


def test_hearing_twice_doubles_the_phones():
    none = torch.zeros(1)
    phones = torch.tensor([1, 2, 3]), torch.tensor([2, 1])
    doubled = Batch(none[None], none, none, none, 1.0, phones=phones).twice().phones
    assert [part.tolist() for part in doubled] == [[1, 2, 3, 1, 2, 3], [2, 1, 2, 1]]


def test_a_run_with_phones_learns_them_and_its_checkpoint_has_none(tones, tmp_path):
    sounds = "".join(f"{word} 1 {' '.join(word.upper())}\n" for word in ("ab", "ba", "ca", "cab"))
    (tmp_path / "tones.dict").write_text(sounds)
    config = config_of(tones, phones=str(tmp_path / "tones.dict"), consistency=0.1)
    trainer = Trainer(config, tmp_path / "run")
    before = trainer.learner.phone_head.weight.detach().clone()
    trainer.run()
    assert not torch.equal(trainer.learner.phone_head.weight, before)
    assert all(entry["loss"] > 0 for entry in metrics(tmp_path / "run") if "loss" in entry)
    assert load_checkpoint(tmp_path / "run" / "checkpoint").encoder.config.vocab_size == 29

    first = Trainer(config, tmp_path / "cut")
    first.run(stop=lambda: first.step == 6)
    Trainer(config, tmp_path / "cut").run()
    check_same(tmp_path / "cut", tmp_path / "run")


def test_phones_without_a_loss_in_the_middle_are_refused(tones):
    with pytest.raises(ConfigError, match="middle_loss"):
        config_of(tones, phones="words.dict", middle_loss=0.0)
