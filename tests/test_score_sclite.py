"""Agreement with NIST's sclite and with jiwer, on texts nobody chose."""

import re
import shutil
import subprocess

import jiwer
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from hyperasr.score.normalise import normaliser
from hyperasr.score.read import read
from hyperasr.score.scoring import score

NONE = normaliser("none")
PAIRS = 2500
needs_sclite = pytest.mark.skipif(shutil.which("sctk") is None, reason="needs sclite (sctk)")


def sclite(*arguments):
    command = ["sctk", "sclite", *map(str, arguments), "-o", "pra", "stdout"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {}
    for block in re.split(r"^id: ", done.stdout, flags=re.MULTILINE)[1:]:
        id = re.match(r"\((\S+)\)", block)[1]
        numbers = re.search(r"^Scores: \(#C #S #D #I\) (.*)$", block, re.MULTILINE)[1].split()
        heard = re.search(r"^HYP: (.*)$", block, re.MULTILINE)
        found[id] = (*map(int, numbers), heard[1].lower() if heard else "")
    return found


def texts(random, count):
    """Pairs of related, unrelated, empty and one-word texts."""
    vocabulary = np.array(["a", "b", "c", "d", "it's", "seven", "zürich", "o"])
    for number in range(count):
        few = vocabulary[: random.integers(2, len(vocabulary) + 1)]
        length = number % 3 if number < 300 else int(random.integers(0, 25))
        said = random.choice(few, length).tolist()
        heard = [w if random.random() > 0.2 else random.choice(few) for w in said]
        heard = [word for word in heard if random.random() > 0.15]
        while random.random() < 0.4:
            heard.insert(int(random.integers(0, len(heard) + 1)), str(random.choice(few)))
        yield f"s{number % 7}-{number:05}", said, heard


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """(reference.trn, hypothesis.trn, pairs)."""
    folder = tmp_path_factory.mktemp("trn")
    pairs = list(texts(np.random.default_rng(7), PAIRS))
    for name, column in (("r.trn", 1), ("h.trn", 2)):
        lines = (f"{' '.join(pair[column])} ({pair[0]})\n" for pair in pairs)
        (folder / name).write_text("".join(lines), encoding="utf-8")
    return folder / "r.trn", folder / "h.trn", pairs


def test_errors_are_those_of_jiwer_in_every_pair(fuzzed):
    said, heard, pairs = fuzzed
    found = {u.id: u.counts for u in score(read(said), read(heard, heard=True), NONE).utterances}
    assert len(found) == PAIRS
    for id, reference, hypothesis in pairs:
        counts = found[id]
        ours = counts.correct, counts.substitutions, counts.deletions, counts.insertions
        if not reference:  # jiwer refuses these
            assert ours == (0, 0, 0, len(hypothesis))
            continue
        theirs = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
        assert ours == (theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions)


@needs_sclite
def test_errors_are_never_more_than_sclites_and_its_weights_explain_the_others(fuzzed):
    """It charges 4 for a substitution and 3 for a deletion or insertion: least cost, not errors."""
    said, heard, pairs = fuzzed
    found = {u.id: u.counts for u in score(read(said), read(heard, heard=True), NONE).utterances}
    theirs = sclite("-r", said, "trn", "-h", heard, "trn", "-i", "spu_id", "-e", "utf-8")
    assert len(theirs) == PAIRS
    more = 0
    for id, reference, hypothesis in pairs:
        _, substitutions, deletions, insertions, _ = theirs[id]
        cost = 4 * substitutions + 3 * (deletions + insertions)
        assert cost == Levenshtein.distance(reference, hypothesis, weights=(3, 3, 4)), id
        assert found[id].errors <= substitutions + deletions + insertions, id
        more += found[id].errors < substitutions + deletions + insertions
    assert more < PAIRS / 20


@needs_sclite
def test_words_go_to_the_segments_that_sclite_gives_them_to(tmp_path):
    """Segments with gaps between them, words in the gaps, before the first and after the last."""
    random = np.random.default_rng(5)
    segments, words = [], []
    for talk in range(60):
        now = random.random()
        for number in range(random.integers(1, 6)):
            end = now + random.uniform(0.5, 4)
            said = " ".join(random.choice(list("abcd"), random.integers(0, 6)))
            segments.append(f"t{talk} 1 t{talk}s{number} {now:.2f} {end:.2f} <o> {said}")
            now = end + random.choice([0, random.random() * 2])
        place = 0.0
        while place < now + 1:
            place = round(place, 2)
            length = int(random.integers(3, 30)) * 2 / 100 + 0.01  # no middle is a segment's end
            words.append(f"t{talk} 1 {place:.2f} {length:.2f} {random.choice(list('abcd'))}")
            place += length + random.choice([0, random.random()])
    said, heard = tmp_path / "r.stm", tmp_path / "h.ctm"
    said.write_text("\n".join(segments) + "\n")
    heard.write_text("\n".join(words) + "\n")
    theirs = {
        id.rpartition("-")[0]: [word for word in row[4].split() if set(word) != {"*"}]
        for id, row in sclite("-r", said, "stm", "-h", heard, "ctm").items()
    }
    found = score(read(said), read(heard, heard=True), NONE)
    ours = {u.speaker: [w.hypothesis for w in u.words if w.hypothesis] for u in found.utterances}
    assert len(ours) == len(segments)
    assert ours == theirs
