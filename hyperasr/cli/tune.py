"""`hyperasr lm tune`: decoding weights and confidences that fit a development set."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hyperasr.cli.options import Device, Lm, Model, Quiet, Threads
from hyperasr.cli.score_tables import reliability
from hyperasr.cli.terminal import console, nobody, say
from hyperasr.files import replacing
from hyperasr.folder import CONFIG_FILE, DEFAULT_MODEL, find_checkpoint, read_config

if TYPE_CHECKING:
    from hyperasr.tune import Trial

DECIMALS = 3


def tune(
    manifest: Annotated[
        Path, typer.Option(help="Development set: a NeMo manifest.", show_default=False)
    ],
    model: Model = DEFAULT_MODEL,
    lm: Lm = None,
    alpha: Annotated[
        str, typer.Option(help="Weights of the language model to try.")
    ] = "0.3,0.4,0.5,0.6,0.8",
    beta: Annotated[str, typer.Option(help="Rewards for each word to try.")] = "0,0.5,1,1.5,2",
    beam_size: Annotated[str, typer.Option(help="Beam sizes to try.")] = "48",
    write: Annotated[
        bool, typer.Option("--write", help="Store the best in the checkpoint's config.json.")
    ] = False,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Choose alpha, beta and beam on a development set, and calibrate confidences.

    Example: hyperasr lm tune --manifest dev.jsonl --lm field.arpa
    """
    alphas, betas = _numbers(alpha, "--alpha"), _numbers(beta, "--beta")
    beams = [int(number) for number in _numbers(beam_size, "--beam-size")]
    if min(beams) < 2:
        raise typer.BadParameter("a beam has 2 texts or more", param_hint="--beam-size")
    folder = find_checkpoint(model)

    from hyperasr import runtime

    runtime.settle(threads)
    import torch

    from hyperasr import tune as tuning
    from hyperasr.checkpoint import load_checkpoint
    from hyperasr.decoding import DecodingOptions
    from hyperasr.score.calibration import calibration
    from hyperasr.transcribe import Transcriber

    options = DecodingOptions(lm=lm)
    tell = nobody if quiet else say
    checkpoint = load_checkpoint(folder)
    device = runtime.choose_device(device)
    transcriber = Transcriber(checkpoint, device, compute_type="auto", decoding=options, say=tell)
    uncalibrated = transcriber.decoder.with_settings(
        replace(transcriber.decoder.settings, sure=1.0, doubt=0.0)
    )
    heard = tuning.hear(transcriber, manifest, checkpoint.tokens)
    processes = torch.get_num_threads()
    found = []
    for trial in tuning.trials(uncalibrated, heard, alphas, betas, beams, processes):
        found.append(trial)
        tell(
            f"beam {trial.settings.beam_size}, alpha {trial.settings.alpha:g}, "
            f"beta {trial.settings.beta:g}: WER {trial.errors.rate:.2%}"
        )
    best = min(found, key=lambda trial: trial.errors.errors)
    confidences, right = tuning.rightness(best)
    sure, doubt = tuning.calibrate(confidences, right) if len(confidences) else (1.0, 0.0)
    before = calibration(confidences, right)
    after = calibration(tuning.calibrated(confidences, sure, doubt), right)
    if not quiet:
        console.print(_grid(found, best))
        console.print("confidence against accuracy, calibrated", reliability(after), sep="\n")
    result = {
        "beam_size": best.settings.beam_size,
        "alpha": best.settings.alpha,
        "beta": best.settings.beta,
        "sure": round(sure, DECIMALS),
        "doubt": round(doubt, DECIMALS),
    }
    if write:
        config = read_config(folder)
        config["decoding"] = config.get("decoding", {}) | result
        with replacing(folder / CONFIG_FILE) as partial:
            partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tell(f"{folder / CONFIG_FILE}: written")
    report = {
        "wer": round(best.errors.rate, 4),
        "by_source": {name: round(count.rate, 4) for name, count in best.by_source.items()},
        "calibration_error_before": round(before.ece, 4),
        "calibration_error": round(after.ece, 4),
    }
    typer.echo(json.dumps(result | report))


def _numbers(text: str, option: str) -> list[float]:
    """'0.3,0.5' -> its numbers."""
    try:
        found = [float(number) for number in text.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or not all(abs(number) < 1e6 for number in found):
        raise typer.BadParameter("numbers with commas, as 0.3,0.5", param_hint=option)
    return found


def _grid(found: list["Trial"], best: "Trial") -> Table:
    """WER of every combination: a row for each alpha, a column for each beta."""
    betas = sorted({trial.settings.beta for trial in found})
    table = Table(title="WER; columns: beta")
    for heading in ("beam", "alpha", *(f"{beta:g}" for beta in betas)):
        table.add_column(heading, justify="right")
    rows = sorted({(trial.settings.beam_size, trial.settings.alpha) for trial in found})
    for beam, alpha in rows:
        cells = []
        for beta in betas:
            (trial,) = [
                trial
                for trial in found
                if (trial.settings.beam_size, trial.settings.alpha, trial.settings.beta)
                == (beam, alpha, beta)
            ]
            text = f"{trial.errors.rate:.2%}"
            cells.append(f"[bold]{text}[/bold]" if trial is best else text)
        table.add_row(str(beam), f"{alpha:g}", *cells)
    return table
