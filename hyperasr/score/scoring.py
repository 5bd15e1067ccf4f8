"""References + hypotheses -> a score: the flow, in order. Start reading here."""

from collections.abc import Sequence

from hyperasr.errors import TextError
from hyperasr.score import measure
from hyperasr.score.align import align, count_errors
from hyperasr.score.join import Joined, join
from hyperasr.score.normalise import Normaliser
from hyperasr.score.result import Comparison, Counts, Score
from hyperasr.score.texts import Text, Texts


def score(
    references: Texts,
    hypotheses: Texts,
    normalise: Normaliser,
    other: Texts | None = None,
) -> Score:
    """How well the hypotheses fit the references; `other`: those of a system to compare with.

    Raises TextError when they do not belong together.
    """
    joined = join(references, hypotheses)
    utterances = tuple(align(*pair, normalise) for pair in joined.pairs)
    tallies = measure.tally(utterances)
    confusions, deletions, insertions = measure.most_frequent(utterances)
    comparison = None
    if other is not None:
        comparison = _compare(joined, tallies, join(references, other), other.name, normalise)
    return Score(
        str(normalise),
        hypotheses.name,
        utterances,
        measure.group("total", tallies),
        measure.groups(utterances, tallies),
        confusions,
        deletions,
        insertions,
        missing=tuple(utterance.id for utterance in utterances if utterance.missing),
        extra=joined.extra,
        comparison=comparison,
        oracle=oracle(joined, normalise),
        calibration=measure.confidences(w for utterance in utterances for w in utterance.words),
    )


def _compare(
    ours: Joined,
    tallies: Sequence[measure.Tally],
    theirs: Joined,
    name: str,
    normalise: Normaliser,
) -> Comparison:
    """The other system on the same utterances."""
    if [text.id for text, _ in ours.pairs] != [text.id for text, _ in theirs.pairs]:
        raise TextError(
            f"{name}: cannot be compared: one system has the times of its words, the other not"
        )
    missing = tuple(text.id for text, heard in theirs.pairs if heard is None)
    aligned = (align(*pair, normalise) for pair in theirs.pairs)
    return measure.compare(name, tallies, measure.tally(aligned), missing)


def oracle(joined: Joined, normalise: Normaliser) -> Counts | None:
    """Errors of the best text of every n-best list; None where there are no lists."""
    if not any(heard and heard.alternatives for _, heard in joined.pairs):
        return None
    total = Counts()
    for reference, heard in joined.pairs:
        said = normalise(reference.text)
        total += min(_choices(said, heard, normalise), key=lambda counts: counts.errors)
    return total


def _choices(said: list[str], heard: Text | None, normalise: Normaliser) -> list[Counts]:
    """Errors of the texts that the lists of an utterance spell.

    Of several lists, one for each segment, the choices are made in turn, each to fit those made
    before, until none helps.
    """
    texts = [count_errors(said, normalise(heard.text if heard else ""))]
    if heard is None or not heard.alternatives:
        return texts
    lists = [[normalise(text) for text in found] for found in heard.alternatives]
    chosen = [found[0] for found in lists]
    best: int | None = None
    while best is None or texts[-1].errors < best:
        best = texts[-1].errors
        for number, found in enumerate(lists):
            tried = []
            for words in found:
                chosen[number] = words
                tried.append(count_errors(said, [w for part in chosen for w in part]))
            least = min(range(len(found)), key=lambda place: tried[place].errors)
            chosen[number] = found[least]
            texts.append(tried[least])
    return texts
