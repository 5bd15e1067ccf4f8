"""`hyperasr lm`: build n-gram language models, adapt them to a field, make them smaller."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperasr.cli.options import Quiet
from hyperasr.cli.terminal import nobody, say
from hyperasr.errors import ConfigError
from hyperasr.folder import DEFAULT_MODEL, find_checkpoint, read_config

if TYPE_CHECKING:
    from hyperasr.lm.model import NGramModel

Arpa = Annotated[
    Path, typer.Argument(metavar="ARPA", help="ARPA file, plain or .gz.", show_default=False)
]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="File to write; .gz compresses.", show_default=False),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="HYPERASR_MODEL",
        help="Checkpoint whose letters and case the text is written in.",
    ),
]
Tokens = Annotated[
    str, typer.Option(help="model: write the text as --model does; none: words as they stand.")
]

app = typer.Typer(
    no_args_is_help=True, help="Build n-gram language models and adapt them to a field."
)


@app.command()
def build(
    text: Annotated[
        list[Path],
        typer.Argument(
            help="Sentences, one a line: .txt, .gz, .xz, NeMo manifests .jsonl, - for stdin.",
            show_default=False,
        ),
    ],
    output: Output,
    order: Annotated[int, typer.Option(min=1, max=6, help="Words of the longest n-grams.")] = 3,
    prune: Annotated[
        str, typer.Option(help="Drop n-grams seen so often or less, per order: 0,0,1.")
    ] = "0",
    model: Model = DEFAULT_MODEL,
    tokens: Tokens = "model",
    quiet: Quiet = False,
) -> None:
    """Learn a language model from text.

    Example: hyperasr lm build letters.txt reports.txt.gz -o field.arpa --order 3 --prune 0,0,1
    """
    _spare(output, text)
    try:
        thresholds = [int(number) for number in prune.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter("numbers with commas, as 0,0,1", param_hint="--prune") from None
    spelling = _spelling(model, tokens)

    from hyperasr.lm import ngram
    from hyperasr.lm.arpa import write_arpa
    from hyperasr.lm.text import Tally, sentences

    tell, tally = nobody if quiet else say, Tally()
    built = ngram.build(sentences(text, spelling, tally), order, thresholds, tell)
    if str(tally):
        tell(str(tally))
    write_arpa(built, output)
    tell(f"{output}: {_counts(built)}")
    if order == 1:
        tell("the decoder (KenLM) reads models of order 2 and more")


@app.command()
def mix(
    base: Arpa,
    domain: Arpa,
    output: Output,
    weight: Annotated[
        str, typer.Option(help="Share of the first model, 0 to 1; auto: what suits --dev best.")
    ] = "auto",
    dev: Annotated[
        list[Path] | None, typer.Option(help="Text of the field, for --weight auto; repeatable.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    tokens: Tokens = "model",
    quiet: Quiet = False,
) -> None:
    """Mix two models into one: a large one of the language and a small one of a field.

    Example: hyperasr lm mix base.arpa field.arpa -o mixed.arpa --dev field-dev.txt
    """
    if weight == "auto" and not dev:
        raise typer.BadParameter("needs --dev, a text of the field", param_hint="--weight auto")
    try:
        share = None if weight == "auto" else float(weight)
    except ValueError:
        raise typer.BadParameter("auto, or a number from 0 to 1", param_hint="--weight") from None
    _spare(output, dev or [])

    from hyperasr.lm import mix as mixing
    from hyperasr.lm.arpa import read_arpa, write_arpa
    from hyperasr.lm.info import letter_case

    first, second = read_arpa(base), read_arpa(domain)
    cases = letter_case(first.vocabulary), letter_case(second.vocabulary)
    if set(cases) == {"lower", "upper"}:
        raise ConfigError(
            f"the words of {base} are {cases[0]} case, those of {domain} {cases[1]} case: "
            "convert one, as with tr 'A-Z' 'a-z'"
        )
    tell = nobody if quiet else say
    if share is None:
        share = mixing.best_weight(first, second, _text(dev or [], first, model, tokens, tell))
        tell(f"weight {share:.3f} of {base}, {1 - share:.3f} of {domain}")
    mixed = mixing.mix(first, second, share)
    write_arpa(mixed, output)
    tell(f"{output}: {_counts(mixed)}")


@app.command()
def prune(
    arpa: Arpa,
    output: Output,
    threshold: Annotated[
        float | None,
        typer.Option(help="Drop n-grams without which perplexity grows by less than this share."),
    ] = None,
    max_ngrams: Annotated[
        int | None, typer.Option(min=1, help="Keep so many n-grams, those that tell most.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a model smaller by what its n-grams contribute.

    Example: hyperasr lm prune mixed.arpa -o small.arpa --threshold 1e-8
    """
    if (threshold is None) == (max_ngrams is None):
        raise typer.BadParameter("give one of the two", param_hint="--threshold or --max-ngrams")

    from hyperasr.lm import prune as pruning
    from hyperasr.lm.arpa import read_arpa, write_arpa

    large = read_arpa(arpa)
    small = pruning.prune(large, threshold, max_ngrams)
    write_arpa(small, output)
    if not quiet:
        say(f"{output}: {_counts(small)}, of {sum(large.counts):,} in all {sum(small.counts):,}")


@app.command()
def info(
    arpa: Arpa,
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Text to measure perplexity and unknown words on; repeatable."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    tokens: Tokens = "model",
) -> None:
    """Show what a model holds and how well it predicts a text.

    Example: hyperasr lm info field.arpa --text field-dev.txt
    """
    from hyperasr.lm.arpa import read_arpa
    from hyperasr.lm.info import describe
    from hyperasr.lm.perplexity import measure

    read = read_arpa(arpa)
    about = describe(read, arpa)
    rows = [
        ("order", str(about.order)),
        *((f"{n}-grams", f"{size:,}") for n, size in enumerate(about.counts, start=1)),
        ("letters", about.letter_case),
        ("bytes", f"{about.size:,}"),
        ("sha256", about.sha256),
    ]
    if text:
        found = measure(read, _text(text, read, model, tokens, say))
        rows += [
            ("perplexity", f"{found.perplexity:.2f}"),
            ("words", f"{found.words:,} in {found.sentences:,} sentences"),
            ("unknown", f"{found.unknown:,} ({found.unknown / found.words:.2%})"),
        ]
    for name, value in rows:
        typer.echo(f"{name:<12}{value}")


@app.command()
def binarize(
    arpa: Arpa,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write.", show_default=False)
    ],
    structure: Annotated[str, typer.Option(help="trie: least memory; probing: fastest.")] = "trie",
    quiet: Quiet = False,
) -> None:
    """Turn a model into KenLM's binary format, which opens at once; needs its build_binary.

    Example: hyperasr lm binarize mixed.arpa -o mixed.bin
    """
    if structure not in ("trie", "probing"):
        raise typer.BadParameter("trie or probing", param_hint="--structure")
    _spare(output, [arpa])

    from hyperasr.lm import binary

    binary.binarize(arpa, output, structure)
    if not quiet:
        say(f"{output}: {output.stat().st_size:,} bytes")


def _spare(output: Path, inputs: list[Path]) -> None:
    """Refuse to overwrite what is read."""
    if os.path.realpath(output) in map(os.path.realpath, inputs):
        raise typer.BadParameter(f"{output} would be overwritten: choose another", param_hint="-o")


def _spelling(model: str, tokens: str) -> Callable[[str], str] | None:
    """How text is to be written; None: as it stands."""
    if tokens == "none":
        return None
    if tokens != "model":
        raise typer.BadParameter("model or none", param_hint="--tokens")

    from hyperasr.tokens import load_tokens

    folder = find_checkpoint(model)
    return load_tokens(read_config(folder).get("tokens", {}), folder).normalise


def _text(
    paths: list[Path], read: "NGramModel", model: str, tokens: str, tell: Callable[[str], None]
) -> Iterator[bytes]:
    """Text to measure on, in the case of the model that was read."""
    from hyperasr.lm.info import letter_case
    from hyperasr.lm.text import Tally, sentences

    spelling, tally = _spelling(model, tokens), Tally()
    for block in sentences(paths, spelling, tally):
        upper = spelling is not None and letter_case(read.vocabulary) == "upper"
        yield block.upper() if upper else block
    if str(tally):
        tell(str(tally))


def _counts(model: "NGramModel") -> str:
    return ", ".join(f"{size:,} {n}-grams" for n, size in enumerate(model.counts, start=1))
