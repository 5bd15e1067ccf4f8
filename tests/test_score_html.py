"""The HTML report: what it says, and that nothing in it is taken for markup."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import calibration, comparison, morning, score_of, utterance

from hyperasr.score.html import audio_url, count, interval, percent, points, to_html
from hyperasr.score.result import Counts, Interval

NASTY = "</script><script>alert(1)</script>"
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: text.split() == [text]
)
texts = st.lists(words, max_size=6).map(" ".join)


class Page(HTMLParser):
    """Tags with their attributes, and the text of each paragraph of words."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.utterances, self.inside = [], [], False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "p":
            self.inside = dict(attributes).get("class") == "words"
            self.utterances += [""] if self.inside else []

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "p"

    def handle_data(self, data):
        if self.inside:
            self.utterances[-1] += data

    def values(self, attribute):
        return [found[attribute] for _, found in self.tags if attribute in found]


def section(html, name):
    """Text of the section of that heading, single spaces."""
    (body,) = re.findall(rf'<section aria-labelledby="{name}">(.*?)</section>', html, flags=re.S)
    return " ".join(re.sub("<[^>]*>", " ", body).replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_summary_says_what_was_measured_and_how():
    html = to_html(morning(oracle=Counts(19, 1, 0, 0), extra=("nobody",)))
    assert "Word errors of <span>hyperconformer-en</span>" in html
    assert "<strong>basic 1</strong>" in html
    said = section(html, "summary")
    assert "Word error rate 15.00 % 95 % interval 13.50–16.50 %" in said
    assert "Sentence error rate 66.67 % 2 of 3 utterances with an error" in said
    assert "Substitutions 1 Deletions 1 Insertions 1" in said
    assert "Oracle word error rate 5.00 %" in said
    assert "1 hypothesis without a reference: not counted nobody" in said


def test_a_missing_hypothesis_is_told_at_the_top_and_at_its_utterance():
    html = to_html(score_of([utterance("a", "one two", "", missing=True)]))
    assert "1 reference without a hypothesis" in section(html, "summary")
    assert "no hypothesis · WER 100.00 % · 2 errors in 2 words" in section(html, "utterances")


def test_groups_and_frequent_errors():
    html = to_html(morning())
    assert "ann 2 11 18.18 % 16.36–20.00 % 1 0 1" in section(html, "by-speaker")
    assert "door →tower 1" in section(html, "errors")
    assert 'id="by-duration"' not in html


def test_an_error_of_the_tables_is_searched_for_as_it_stands_in_its_utterance():
    page = Page(to_html(morning()))
    searches = page.values("data-search")
    assert sorted(searches) == ["+now", "door→tower", "−a"]
    assert all(any(s in text.split() for text in page.utterances) for s in searches)


def test_long_tables_are_folded_and_nothing_is_left_out():
    utterances = [utterance(f"u{i}", f"w{i}", "x", speaker=f"s{i}") for i in range(30)]
    page = Page(to_html(score_of(utterances)))
    assert sum(tag == "details" for tag, _ in page.tags) == 2
    assert len(set(page.values("data-search"))) == 30
    assert {f"s{i}" for i in range(30)} == set(page.values("data-speaker"))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.02, -0.004, "The first is better by more"),
        (0.004, 0.02, "The second is better by more"),
        (-0.01, 0.02, "do not show which is better"),
    ],
)
def test_a_comparison_ends_in_what_it_means(low, high, verdict):
    utterances = morning().utterances
    said = section(
        to_html(morning(comparison=comparison(utterances, Interval(low, high)))), "comparison"
    )
    assert "is −1.20 percentage points" in said
    assert verdict in said


def test_reliability_as_a_table_and_as_a_picture():
    score = morning()
    html = to_html(morning(calibration=calibration(score.utterances)))
    assert "0.80 to 1.00 20 0.90 90.00 %" in section(html, "confidences")
    bars = [found for tag, found in Page(html).tags if tag == "rect"]
    assert [(float(bar["x"]), float(bar["height"])) for bar in bars] == [(80.0, 90.0)]


def test_what_is_not_known_has_no_section():
    html = to_html(score_of([utterance("a", "one", "one")]))
    assert re.findall(r'<section aria-labelledby="([\w-]+)">', html) == ["summary", "utterances"]


@pytest.mark.parametrize("heard", ["", "one two"])
def test_references_without_words_have_no_rate(heard):
    html = to_html(score_of([utterance("a", "", heard)]))
    assert "Word error rate –" in section(html, "summary")
    assert "a word error rate is not defined" in section(html, "summary")
    assert ("no words" in section(html, "utterances")) is (not heard)


def test_nothing_scored_is_a_page_too():
    assert "0 utterances" in to_html(score_of([])).replace("\N{NO-BREAK SPACE}", " ")


@given(st.lists(st.tuples(words, texts, texts), max_size=4))
def test_every_word_of_any_text_is_in_the_page_as_text(rows):
    utterances = [utterance(name, said, heard) for name, said, heard in rows]
    html = to_html(score_of(utterances))
    spelled = {
        "correct": lambda w: w.reference,
        "substitution": lambda w: f"{w.reference}→{w.hypothesis}",
        "deletion": lambda w: f"−{w.reference}",
        "insertion": lambda w: f"+{w.hypothesis}",
    }
    assert Page(html).utterances == [
        " ".join(spelled[w.kind](w) for w in u.words) or "no words" for u in utterances
    ]


def test_markup_in_any_field_stays_text(tmp_path):
    nasty = utterance(
        f"{NASTY}'\"", f"{NASTY}1 b", f"{NASTY}2 b", speaker=f'"{NASTY}', source=NASTY,
        audio=f"{NASTY}.wav",
    )  # fmt: skip
    plain = utterance("a", "a b", "c b", speaker="s", source="t", audio="a.wav")
    more = {"system": NASTY, "normaliser": NASTY, "extra": (NASTY,), "missing": (NASTY,)}
    html = to_html(score_of([nasty], **more), tmp_path)
    assert html.count("<script") == to_html(score_of([plain]), tmp_path).count("<script") == 1
    assert html.count("</script") == 1
    assert f'"{NASTY}' in Page(html).values("data-speaker")


def test_nothing_comes_from_elsewhere():
    page = Page(to_html(morning()))
    assert not page.values("src")
    assert {v for v in page.values("href") if not v.startswith("#")} == {"data:,"}
    assert "http" not in to_html(morning()).replace("http-equiv", "")


def test_words_with_times_can_be_played_and_others_not(tmp_path):
    timed = utterance("a", "one two", "one tow", audio="a.wav", offset=10.0, duration=3.0)
    untimed = utterance("b", "one two", "one tow", timed=False, audio="b.wav")
    nowhere = utterance("c", "one two", "one tow")
    page = Page(to_html(score_of([timed, untimed, nowhere]), tmp_path))
    assert page.values("data-t") == ["10.00", "10.50"]
    assert page.values("data-from") == ["10.0", "0.0"]
    assert page.values("data-to") == ["13.0"]
    silent = Page(to_html(score_of([timed])))
    assert not silent.values("data-t") + silent.values("data-audio")
    assert "audio" not in {tag for tag, _ in silent.tags}


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(names, min_size=1), st.lists(names), st.booleans())
def test_a_recording_is_found_from_the_folder_of_the_page(audio, folder, absolute):
    root = "/" if absolute else ""
    path, folder = root + "/".join(audio), Path(root + "/".join(folder))
    url = audio_url(utterance("a", "", "", audio=path), folder)
    assert re.fullmatch(r"[\w.~/%-]+", url, flags=re.ASCII)
    assert os.path.normpath(os.path.join(folder.absolute(), unquote(url))) == os.path.abspath(path)


def test_a_file_name_that_is_no_text_is_found_too():
    assert audio_url(utterance("a", "", "", audio="/x/\udcff.wav"), Path("/x/y")) == "../%FF.wav"


def test_numbers_as_people_read_them():
    assert percent(None) == "–"
    assert percent(1.5) == "150.00\N{NO-BREAK SPACE}%"
    assert interval(Interval(0.1, 0.2)) == "10.00–20.00\N{NO-BREAK SPACE}%"
    assert (points(-0.5), points(0.012)) == ("−50.00", "+1.20")
    assert count(5000, "word") == "5,000\N{NO-BREAK SPACE}words"
    assert count(2, "hypothesis", "hypotheses") == "2\N{NO-BREAK SPACE}hypotheses"
