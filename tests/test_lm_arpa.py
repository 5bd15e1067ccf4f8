"""ARPA files come back as they were, and every kind of damage is named with its line."""

import gzip
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_models import SENTENCES, build, largest_difference, model

from hyperasr.errors import LanguageModelError, OutputError
from hyperasr.lm import arpa
from hyperasr.lm.arpa import arpa_blocks, numerals, read_arpa, write_arpa

SMALL = r"""\data\
ngram 1=4
ngram 2=3

\1-grams:
-1.5	<unk>
-99	<s>	-0.3
-0.5	</s>
-0.25	hello	-0.125

\2-grams:
-0.2	<s> hello
-0.4	hello </s>
-1	hello hello

\end\
"""


@pytest.fixture
def damaged(tmp_path):
    """Read SMALL with something replaced in it; the message, without the path."""

    def read(before: str | None, after: str) -> str:
        assert before is None or before in SMALL
        path = tmp_path / "small.arpa"
        path.write_text(after if before is None else SMALL.replace(before, after))
        with pytest.raises(LanguageModelError) as caught:
            read_arpa(path)
        return str(caught.value).removeprefix(str(path))

    return read


def test_what_is_read(tmp_path):
    (tmp_path / "small.arpa").write_text(SMALL)
    small = read_arpa(tmp_path / "small.arpa")
    assert small.vocabulary == ("<unk>", "<s>", "</s>", "hello")
    assert small.counts == (4, 3)
    assert small.ids(2).tolist() == [[1, 3], [3, 2], [3, 3]]
    np.testing.assert_allclose(small.grams[0].backoff, [0, -0.3, 0, -0.125])
    np.testing.assert_allclose(small.grams[1].log_prob, [-0.2, -0.4, -1])


@given(SENTENCES, st.integers(1, 4), st.booleans())
def test_a_model_comes_back_as_it_was_written(tmp_path_factory, sentences, order, zipped):
    path = tmp_path_factory.mktemp("arpa") / ("model.arpa.gz" if zipped else "model.arpa")
    written = build(sentences, order)
    write_arpa(written, path)
    read = read_arpa(path)
    assert read.vocabulary == written.vocabulary
    assert largest_difference(written, read) < 1e-7


def test_blocks_of_lines_fit_together(tmp_path, monkeypatch):
    whole = b"".join(arpa_blocks(model()))
    monkeypatch.setattr(arpa, "BLOCK_LINES", 100)
    assert b"".join(arpa_blocks(model())) == whole
    (tmp_path / "a.arpa").write_bytes(whole)
    assert largest_difference(read_arpa(tmp_path / "a.arpa"), model()) < 1e-7


def test_the_same_model_gives_the_same_compressed_file(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_arpa(model(), tmp_path / name)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@given(st.lists(st.floats(-150, 150, width=32), min_size=1))
def test_numerals_say_the_number(values):
    pool = numerals(np.array(values, np.float32))
    spelled = [
        bytes(pool.letters[begin : begin + length - 1]).decode()
        for begin, length in zip(pool.begins, pool.lengths, strict=True)
    ]
    assert all(re.fullmatch(r"-?[0-9]{1,3}\.[0-9]{7}|0", text) for text in spelled)
    np.testing.assert_allclose([float(text) for text in spelled], values, rtol=0, atol=5.1e-8)


def test_other_toolkits_habits_are_understood(tmp_path):
    text = "# made by hand\n\n" + SMALL.replace("ngram 1=4", "ngram 1 = 4").replace("\n", "\r\n")
    (tmp_path / "crlf.arpa").write_text(text.replace("hello hello", "hello  hello "))
    assert read_arpa(tmp_path / "crlf.arpa").counts == (4, 3)


@pytest.mark.parametrize("kept", range(0, len(SMALL) - len("\\end\\\n"), 7))
def test_a_file_cut_short_is_refused(damaged, kept):
    assert re.match(
        r", line \d+: .*(the file ends here|should stand here)", damaged(None, SMALL[:kept])
    )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("\\data\\", "data", ", line 1: \\data\\ should stand here: this is no ARPA file"),
        ("\\data\\", "mmap lm http://kheafield.com/code format version 5", "the ARPA file that it"),
        ("ngram 2=", "ngram 3=", ", line 3: 'ngram 2=' and a number should stand here"),
        ("ngram 2=3", "ngram 2=many", ", line 3: 'ngram 2='"),
        ("ngram 1=4\nngram 2=3\n", "", ", line 2: this model has order 0: 1 to 6 can be used"),
        ("ngram 1=4", "ngram 1=3", ", line 9: \\2-grams: should stand here: the counts at the top"),
        ("ngram 1=4", "ngram 1=5", ", line 10: '' is no line of a 1-gram: the counts at the top"),
        ("ngram 2=3", "ngram 2=2", ", line 14: \\end\\ should stand here"),
        ("\\2-grams:", "\\3-grams:", ", line 11: \\2-grams: should stand here"),
        ("-0.5\t", "nan\t", ", line 8: 'nan' is no number: build the model again"),
        ("-0.4\t", "-inf\t", ", line 13: '-inf' is no number"),
        ("-0.4\t", "zero\t", ", line 13: 'zero' is no number"),
        ("-0.125", "-0,125", ", line 9: '-0,125' is no number"),
        ("-0.25", "0.25", ", line 9: a log-probability above 0 in '0.25 hello -0.125'"),
        ("hello hello", "hello hello\t-1", ", line 14: a back-off weight at the highest order"),
        ("hello hello", "hello", ", line 14: '-1 hello' is no line of a 2-gram"),
        ("hello hello", "a b c d", ", line 14: '-1 a b c d' is no line of a 2-gram"),
        ("hello hello", "hello you", ", line 14: 'you' is not among the 1-grams"),
        ("hello hello", "hello </s>", ", line 14: this n-gram is there twice: take one"),
        ("</s>\n-0.25\thello", "hello\n-0.25\thello", ", line 9: 'hello' is there twice"),
        ("-0.5\t</s>", "-0.5\t</S>", ", line 9: no </s> among the 1-grams above"),
        ("<unk>", "unk", ", line 9: no <unk> among the 1-grams above: build the model again with"),
    ],
)
def test_damage_is_named_with_its_line(damaged, before, after, message):
    assert message in damaged(before, after)


def test_an_ngram_whose_context_is_missing_is_refused(damaged):
    text = SMALL.replace("ngram 2=3", "ngram 2=3\nngram 3=1")
    text = text.replace("\\end\\", "\\3-grams:\n-0.1\t</s> hello hello\n\n\\end\\")
    assert "line 18: '</s> hello' is not among the 2-grams" in damaged(None, text)


def test_words_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "latin.arpa").write_bytes(SMALL.replace("hello", "\xe9t\xe9").encode("latin-1"))
    with pytest.raises(LanguageModelError, match=r"line 9: .* is not UTF-8: convert the file"):
        read_arpa(tmp_path / "latin.arpa")


def test_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(LanguageModelError, match=r"nowhere\.arpa: no such file"):
        read_arpa(tmp_path / "nowhere.arpa")
    with pytest.raises(LanguageModelError, match="is a directory"):
        read_arpa(tmp_path)
    whole = gzip.compress(SMALL.encode())
    (tmp_path / "half.arpa.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LanguageModelError, match=r"half\.arpa\.gz: damaged gzip data"):
        read_arpa(tmp_path / "half.arpa.gz")


def test_what_stood_there_stays_if_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "model.arpa"
    path.write_text("before")

    def full(model):
        yield b"half of it"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arpa, "arpa_blocks", full)
    with pytest.raises(OutputError, match="no space left on device; free some disk space"):
        write_arpa(model(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.arpa"]
    assert path.read_text() == "before"
