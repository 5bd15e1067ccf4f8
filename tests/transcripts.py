"""Transcripts to write: said on purpose, or as hypothesis makes them up."""

from itertools import accumulate, pairwise

from hypothesis import strategies as st

from hyperasr.transcript import Segment, Transcript, Word

UNICODE = st.text(max_size=60) | st.sampled_from(
    ["", "-->", "--->", "&lt;", "<v Bob>", "<unk>", '"', '""', "\n\n", "1", ";;", "a\tb"]
)
LETTERS = st.text("abcdeéßж語😀", min_size=1, max_size=50)
TICKS = st.sampled_from([0.0, 0.0, 0.0004, 0.04, 0.2, 0.3, 0.7, 2.5, 9.0])


def say(text: str, seconds: float = 0.3, pauses: dict[int, float] | None = None) -> Transcript:
    """One segment; every word lasts `seconds`, `pauses` are the gaps before words, by position."""
    words, now = [], 0.0
    for position, word in enumerate(text.split()):
        now += (pauses or {}).get(position, 0.0)
        words.append(Word(word, now, now + seconds, 1.0))
        now += seconds
    return Transcript("a.wav", now, (Segment(0.0, now, tuple(words)),))


@st.composite
def transcripts(draw: st.DrawFn, texts: st.SearchStrategy[str] = LETTERS) -> Transcript:
    """Words in order of time, some of them without duration, some segments without words."""
    spoken = draw(st.lists(st.tuples(texts, TICKS, TICKS), max_size=40))
    times = list(accumulate((tick for _, *ticks in spoken for tick in ticks), initial=0.0))
    words = [
        Word(text, times[2 * n + 1], times[2 * n + 2], 0.5) for n, (text, *_) in enumerate(spoken)
    ]
    cuts = draw(st.lists(st.integers(0, len(words)), max_size=3).map(sorted))
    parts = [words[a:b] for a, b in pairwise([0, *cuts, len(words)])]
    return Transcript("a.wav", times[-1], tuple(segment_of(part) for part in parts))


@st.composite
def muddled_transcripts(draw: st.DrawFn) -> Transcript:
    """Segments that overlap, words that run backwards: nothing that should happen."""
    times = st.floats(min_value=-1, max_value=30)
    words = st.builds(Word, LETTERS, times, times, st.just(0.5))
    parts = draw(st.lists(st.lists(words, max_size=12), max_size=4))
    return Transcript("a.wav", 30.0, tuple(segment_of(part) for part in parts))


def segment_of(words: list[Word]) -> Segment:
    return Segment(words[0].start, words[-1].end, tuple(words)) if words else Segment(0, 0, ())


def inked(transcript: Transcript) -> list[str]:
    """The words as they can be seen: without line ends, and those that are blank left out."""
    return [text for word in transcript.words if (text := " ".join(word.text.split()))]
