"""What a vocabulary promises: text goes in and comes back, spelled as the vocabulary can."""

import io
import subprocess
import sys
import unicodedata

import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from hyperasr.errors import CheckpointError
from hyperasr.tokens import BLANK, ENGLISH, CharTokens, SentencePieceTokens, load_tokens, normalise

SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen liquor jugs",
    "how vexingly quick daft zebras jump",
    "she said don't you know it's the dog's box",
] * 3

CAPITALS = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TRICKY_ALPHABET = r" a]^-\[.*'"
ALPHABETS = [ENGLISH, CAPITALS, " abcABC", TRICKY_ALPHABET]


def train(sentences=SENTENCES, **settings):
    """A sentencepiece model, in milliseconds."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        minloglevel=2,
        **{"vocab_size": 40} | settings,
    )
    return SentencePieceTokens(model.getvalue())


SUBWORDS = {
    "unknown first": train(),
    "recipe": train(unk_id=0, bos_id=-1, eos_id=-1, vocab_size=38),
    "byte pairs": train(model_type="bpe", vocab_size=60),
    "capitals": train([sentence.upper() for sentence in SENTENCES]),
}
with_each_model = pytest.mark.parametrize("tokens", SUBWORDS.values(), ids=SUBWORDS)

texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=" '\u2019abcXYZéß-\t\n▁<>/", max_size=40),
    st.lists(st.sampled_from(" ".join(SENTENCES).split()), max_size=8).map(" ".join),
)


# Spelling.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  two \t words\n", "two words"),
        ("", ""),
        ("¡¿!?", ""),
        ("café Ångström naïve", "cafe angstrom naive"),
        ("e\u0301", "e"),
        ("don\u2019t \u2018quote\u2019", "don't 'quote'"),
        ("don't", "don't"),
        ("well-known", "well known"),
        ("3 apples", "apples"),
        ("ﬁne ﬀ", "fine ff"),
        ("İstanbul", "istanbul"),
        ("a\u00a0b\u2003c", "a b c"),
        ("▁the", "the"),
    ],
)
def test_english_is_spelled_with_small_letters_spaces_and_apostrophes(text, expected):
    assert normalise(text, ENGLISH) == expected


def test_the_case_follows_the_alphabet():
    assert normalise("Straße Zürich", CAPITALS) == "STRASSE ZURICH"
    assert normalise("aA bB", " abAB") == "aA bB"
    assert normalise("aA bB", " ab") == "aa bb"


def test_letters_that_mean_something_in_a_pattern_are_only_letters():
    assert normalise(r"a-z]^\[.*b", TRICKY_ALPHABET) == r"a- ]^\[.*"


@given(text=texts, alphabet=st.sampled_from(ALPHABETS))
def test_spelling_twice_is_spelling_once_with_the_alphabet_alone(text, alphabet):
    once = normalise(text, alphabet)
    assert set(once) <= set(alphabet)
    assert once == " ".join(once.split())
    assert normalise(once, alphabet) == once


@given(st.text(alphabet="abc ' ABC", max_size=40))
def test_composed_and_decomposed_accents_are_spelled_alike(text):
    accented = "".join(c + "\u0301" if c.isalpha() else c for c in text)
    assert normalise(accented, ENGLISH) == normalise(text, ENGLISH)
    assert normalise(unicodedata.normalize("NFC", accented), ENGLISH) == normalise(text, ENGLISH)


# Characters.


def test_the_english_vocabulary_is_the_blank_and_28_characters():
    assert CharTokens().labels == ("", *" 'abcdefghijklmnopqrstuvwxyz")
    assert CharTokens().encode("A b'z") == [3, 1, 4, 2, 28]


@given(text=texts, alphabet=st.sampled_from(ALPHABETS))
@example("", ENGLISH)
@example(" ", ENGLISH)
def test_characters_come_back_as_they_were_spelled(text, alphabet):
    tokens = CharTokens(alphabet)
    ids = tokens.encode(text)
    assert BLANK not in ids
    assert all(0 < i < len(tokens.labels) for i in ids)
    assert tokens.decode(ids) == tokens.normalise(text) == normalise(text, alphabet)


def test_decoding_characters_gives_single_spaces():
    assert CharTokens().decode([1, 1, 3, 1, 1, 4, 1]) == "a b"


@pytest.mark.parametrize("alphabet", ["", "abc", "a a", " aba"])
def test_an_alphabet_needs_a_space_and_no_letter_twice(alphabet):
    with pytest.raises(CheckpointError, match="distinct letters and a space"):
        CharTokens(alphabet)


# Subwords.


@with_each_model
@given(words=st.lists(st.sampled_from(" ".join(SENTENCES).split()), max_size=8))
def test_subwords_come_back_as_they_were_spelled(tokens, words):
    text = " ".join(words)
    ids = tokens.encode(text)
    assert BLANK not in ids
    assert tokens.decode(ids) == tokens.normalise(text)
    assert tokens.normalise(text).lower() == text


@with_each_model
@given(text=texts)
@example("The <b> fox")
def test_any_text_becomes_subwords_and_comes_back_as_words(tokens, text):
    ids = tokens.encode(text)
    assert all(0 < i < len(tokens.labels) for i in ids)
    words = tokens.decode(ids)
    assert words == " ".join(words.split())
    assert tokens.normalise(tokens.normalise(text)) == tokens.normalise(text)


@with_each_model
def test_labels_begin_with_the_blank_and_mark_the_beginning_of_words(tokens):
    assert tokens.labels[BLANK] == ""
    assert any(label.startswith("▁") for label in tokens.labels)
    assert len(set(tokens.labels)) == len(tokens.labels)


def test_accents_and_case_of_subwords_follow_their_letters():
    assert SUBWORDS["recipe"].normalise("Thé FOX isn\u2019t") == "the fox isn't"
    assert SUBWORDS["capitals"].normalise("thé fox isn\u2019t") == "THE FOX ISN'T"


def test_marks_of_the_model_are_not_letters_of_the_vocabulary():
    tokens = SUBWORDS["unknown first"]  # its pieces 1 and 2 are <s> and </s>
    assert tokens.normalise("the <fox> / box") == "the fox box"


def test_what_a_model_with_a_padding_piece_cannot_spell_is_left_out():
    tokens = train(pad_id=0, unk_id=1, bos_id=-1, eos_id=-1)
    assert tokens.decode(tokens.encode("the <fox>")) == "the fox"


# Descriptions on disk.


@pytest.mark.parametrize("tokens", [CharTokens(" abc'"), SUBWORDS["recipe"]], ids=type)
def test_a_vocabulary_comes_back_from_its_folder(tokens, tmp_path):
    tokens.save(tmp_path)
    loaded = load_tokens(tokens.config(), tmp_path)
    assert type(loaded) is type(tokens)
    assert loaded.labels == tokens.labels
    assert loaded.config() == tokens.config()
    assert loaded.encode("a box") == tokens.encode("a box")


def test_a_vocabulary_of_characters_writes_no_file(tmp_path):
    CharTokens().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"type": "magic"},
        {"type": None},
        {"type": "characters"},
        {"type": "characters", "alphabet": 3},
        {"type": "characters", "alphabet": "aa "},
        None,
        [],
        "characters",
    ],
    ids=str,
)
def test_a_description_of_no_vocabulary_is_refused(config, tmp_path):
    with pytest.raises(CheckpointError, match="vocabulary"):
        load_tokens(config, tmp_path)


def test_a_missing_sentencepiece_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"lacks tokenizer\.model"):
        load_tokens({"type": "sentencepiece"}, tmp_path)


@pytest.mark.parametrize("harm", [lambda data: b"", lambda data: b"x" * 99, lambda data: data[:-9]])
def test_a_damaged_sentencepiece_model_is_refused(harm, tmp_path):
    SUBWORDS["recipe"].save(tmp_path)
    path = tmp_path / "tokenizer.model"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is not a sentencepiece model"):
        load_tokens({"type": "sentencepiece"}, tmp_path)


def test_vocabularies_do_not_wait_for_torch():
    code = "import sys, hyperasr.tokens; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
