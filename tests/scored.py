"""Scores to show: utterances aligned word by word, summed up the way a report wants them."""

from collections import Counter, defaultdict

from rapidfuzz.distance import Levenshtein

from hyperasr.score.result import (
    AlignedWord,
    Calibration,
    Comparison,
    Confusion,
    Counts,
    Group,
    Interval,
    ReliabilityBin,
    Score,
    ScoredUtterance,
)


def aligned(reference, hypothesis):
    """(word, time, confidence) triples of a hypothesis against the words of a reference."""
    heard = [word for word, _, _ in hypothesis]
    for op in Levenshtein.opcodes(reference, heard):
        for i in range(max(op.src_end - op.src_start, op.dest_end - op.dest_start)):
            said = reference[op.src_start + i] if op.src_start + i < op.src_end else None
            word, start, confidence = None, None, None
            if op.dest_start + i < op.dest_end:
                word, start, confidence = hypothesis[op.dest_start + i]
            end = None if start is None else start + 0.3
            yield AlignedWord(said, word, start, end, confidence)


def utterance(name, reference, hypothesis, timed=True, **more):
    """From two texts; its words start half a second after each other."""
    heard = [(w, i / 2 if timed else None, 0.9) for i, w in enumerate(hypothesis.split())]
    words = tuple(aligned(reference.split(), heard))
    return ScoredUtterance(name, words, characters(reference, hypothesis), **more)


def characters(reference, hypothesis):
    """Counts over the characters of two texts."""
    return Counts.of(aligned(list(reference), [(c, None, None) for c in hypothesis]))


def group(name, utterances):
    """Sums, with an interval that is no more than plausible."""
    words = sum((u.counts for u in utterances), Counts())
    chars = sum((u.characters for u in utterances), Counts())
    wrong = sum(u.counts.errors > 0 for u in utterances)
    rate = words.rate
    interval = None if rate is None else Interval(0.9 * rate, 1.1 * rate)
    return Group(name, len(utterances), words, chars, wrong, interval)


def score_of(utterances, **more):
    """Everything that follows from the utterances; `more` is what does not."""
    groups, errors = {}, defaultdict(Counter)
    for key in ("speaker", "source"):
        members = defaultdict(list)
        for u in utterances:
            members[getattr(u, key)].append(u)
        if set(members) - {""}:
            groups[key] = tuple(group(name, found) for name, found in sorted(members.items()))
    for u in utterances:
        for w in u.words:
            errors[w.kind][Confusion(w.reference or "", w.hypothesis or "", 0)] += 1
    frequent = {
        kind: tuple(Confusion(c.reference, c.hypothesis, n) for c, n in found.most_common())
        for kind, found in errors.items()
    }
    made = {
        "normaliser": "basic 1",
        "system": "hyperconformer-en",
        "groups": groups,
        "confusions": frequent.get("substitution", ()),
        "deletions": frequent.get("deletion", ()),
        "insertions": frequent.get("insertion", ()),
        "missing": tuple(u.id for u in utterances if u.missing),
    }
    return Score(
        **{**made, "utterances": tuple(utterances), "total": group("", utterances), **more}
    )


def calibration(utterances):
    """Five bins over the words with a confidence."""
    words = [w for u in utterances for w in u.words if w.confidence is not None]
    bins, ece = [], 0.0
    for i in range(5):
        inside = [
            w for w in words if i / 5 <= w.confidence and (i == 4 or w.confidence < (i + 1) / 5)
        ]
        n = len(inside)
        confidence = sum(w.confidence for w in inside) / n if n else 0.0
        accuracy = sum(w.kind == "correct" for w in inside) / n if n else 0.0
        bins.append(ReliabilityBin(i / 5, (i + 1) / 5, n, confidence, accuracy))
        ece += n * abs(confidence - accuracy) / max(len(words), 1)
    return Calibration(tuple(bins), ece)


def comparison(utterances, interval):
    """With another system that is a little worse, as far as can be told."""
    return Comparison("baseline", group("baseline", utterances), -0.012, interval, 0.99)


def morning(audio="", **more):
    """Three sentences, one of each error among them."""
    come, seen = "she said that she would come", "i have never seen {}man who was good"
    texts = [
        ("morning-1", come, come, "ann", "a"),
        ("morning-10", seen.format("a "), seen.format(""), "bob", "b"),
        ("morning-2", "they came to the door", "they came now to the tower", "ann", "b"),
    ]
    utterances = [
        utterance(name, said, heard, speaker=speaker, source=source, audio=audio, duration=4.0)
        for name, said, heard, speaker, source in texts
    ]
    return score_of(utterances, **more)
