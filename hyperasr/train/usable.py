"""Which utterances a run can learn from, and why not from the others."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from hyperasr.decoder import FRAME_SECONDS
from hyperasr.errors import ConfigError, ManifestError
from hyperasr.manifest import Utterance
from hyperasr.tokens import Tokens
from hyperasr.train.config import TrainConfig
from hyperasr.train.corpus import Corpus


def worth_reading(
    utterances: Sequence[Utterance], tokens: Tokens, say: Callable[[str], None]
) -> list[Utterance]:
    """Those that have a text.

    Raises ManifestError when there are none.
    """
    spelled = [utterance for utterance in utterances if tokens.encode(utterance.text)]
    without = "without text in the model's letters (letters adds some)"
    _tell(len(utterances), {without: len(utterances) - len(spelled)}, say)
    return spelled


def learnable(
    corpus: Corpus, config: TrainConfig, tokens: Tokens, say: Callable[[str], None]
) -> Corpus:
    """Those that are no longer than a batch may hold, and long enough for CTC to spell the text.

    Raises ManifestError when there are none.
    """
    long = [u.duration > config.max_utterance for u in corpus.utterances]
    hasty = [
        int(u.duration / FRAME_SECONDS) + 1 < frames(tokens.encode(u.text))
        for u in corpus.utterances
    ]
    kept = [index for index in range(len(long)) if not (long[index] or hasty[index])]
    example = corpus.utterances[hasty.index(True)].audio if any(hasty) else ""
    reasons = {
        f"longer than {config.max_utterance:g} s (max_utterance)": sum(long),
        f"too short for the text, such as {example}": sum(hasty),
    }
    _tell(len(long), reasons, say)
    return corpus if len(kept) == len(long) else corpus.only(kept)


def of_speakers(corpus: Corpus, names: Sequence[str]) -> list[int]:
    """The utterances of these speakers.

    Raises ConfigError when there is a name that nobody has.
    """
    unknown = set(names) - {utterance.speaker for utterance in corpus.utterances}
    if unknown:
        raise ConfigError(
            f"train: first_speakers not in the manifests: {', '.join(sorted(unknown))}"
        )
    return [i for i, utterance in enumerate(corpus.utterances) if utterance.speaker in names]


def frames(ids: Sequence[int]) -> int:
    """Frames that CTC needs to say these tokens: a blank stands between two that are equal."""
    return len(ids) + sum(one == other for one, other in pairwise(ids))


def _tell(count: int, reasons: dict[str, int], say: Callable[[str], None]) -> None:
    lost = sum(reasons.values())
    if not lost:
        return
    why = ", ".join(f"{number} {reason}" for reason, number in reasons.items() if number)
    if lost >= count:
        raise ManifestError(f"train: none of {count} utterances can be learnt from: {why}")
    say(f"{lost} of {count} utterances left out: {why}")
