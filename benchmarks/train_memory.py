"""Peak memory of one step of the LibriSpeech recipes: HyperConformer against Conformer.

    python benchmarks/train_memory.py --models hyperconformer-8m,conformer-8m --limit 12

A step of `hyperasr train --recipe librispeech-8m`: joint loss over 5,000 tokens, SpecAugment, Adam,
on a batch of 600 s of padded noise with made-up texts (3.3 tokens a second, as with LibriSpeech's
subwords). Each model is in a process of its own and comes to the whole batch by way of a quarter
and of half of it: if twice a batch's memory would be above the limit, the next is not tried.
Memory is the most that the process, or the GPU, ever held in two steps, the second with Adam's
state in place. Prints a table and one JSON line.
"""

import argparse
import json
import time
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from hyperasr import runtime
from hyperasr.bench.measure import apart, process_peak, wait_for

VOCAB_SIZE = 5000
TOKENS_PER_SECOND = 3.3
PARTS = (4, 2, 1)
GB = 1e9


class Labels:
    """A vocabulary of which only the size matters."""

    labels = ("", "<s>", "</s>", *(str(number) for number in range(3, VOCAB_SIZE)))


def step(
    model: str, seconds: float, utterance: float, precision: str, device: str, threads: int
) -> dict[str, float]:
    """Peak memory in GB and seconds of the second of two steps on so many seconds of audio."""
    runtime.settle(threads)
    import torch

    from hyperasr.train.augment import spec_augment
    from hyperasr.train.batches import Batch
    from hyperasr.train.config import load_config
    from hyperasr.train.learner import Learner

    config = load_config(None, {"manifests": ["none"], "dev": "none"}, "librispeech-8m")
    config = replace(config, model=model)
    learner = Learner(config, Labels(), torch.device(device), bfloat16=precision == "bfloat16")
    count, samples = int(seconds / utterance), round(utterance * 16_000)
    U = round(TOKENS_PER_SECOND * utterance)
    batch = Batch(
        waveforms=torch.randn(count, samples),
        lengths=torch.full((count,), samples),
        targets=torch.randint(3, VOCAB_SIZE, (count * U,)),
        target_lengths=torch.full((count,), U),
        weight=1 / (count * U),
        tokens_each=U,
    )
    began = held(device)
    took = 0.0
    for number in range(2):
        wait_for(device)
        started = time.perf_counter()
        with torch.no_grad():
            features, frames = learner.features(
                batch.waveforms.to(device), batch.lengths.to(device)
            )
            features = spec_augment(features, frames, config, torch.Generator().manual_seed(number))
        learner.optimizer.zero_grad(set_to_none=True)
        learner.losses(features, frames, batch).total.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters, config.max_grad_norm)
        learner.update(1e-4)
        wait_for(device)
        took = time.perf_counter() - started
    parameters = sum(p.numel() for p in learner.parameters)
    return {
        "audio_seconds": count * utterance,
        "peak_gb": held(device) / GB,
        "before_gb": began / GB,
        "seconds": took,
        "parameters": parameters,
    }


def held(device: str) -> int:
    """The most bytes that were held so far."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated()
    return process_peak()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="hyperconformer-8m,conformer-8m")
    parser.add_argument("--seconds", type=float, default=600.0, help="of padded audio in a batch")
    parser.add_argument("--utterance", type=float, default=15.2, help="seconds of one of them")
    parser.add_argument("--limit", type=float, default=12.0, help="GB that a step may take")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    from train_memory import step  # by a name that the other process can import

    table = Table(title=f"one training step, {arguments.utterance:g} s each, {arguments.precision}")
    for heading in ("model", "audio, s", "peak, GB", "before the step, GB", "seconds"):
        table.add_column(heading, justify="right")
    rows = []
    for model in arguments.models.split(","):
        peak = 0.0
        for part in PARTS:
            seconds = arguments.seconds / part
            if 2 * peak > arguments.limit:
                table.add_row(model, f"{seconds:g}", f"above {arguments.limit:g}?", "-", "-")
                continue
            asked = (seconds, arguments.utterance, arguments.precision, arguments.device)
            found = apart(step, model, *asked, arguments.threads)
            peak = found["peak_gb"]
            rows.append({"model": model} | {k: round(v, 2) for k, v in found.items()})
            values = (found[k] for k in ("audio_seconds", "peak_gb", "before_gb", "seconds"))
            table.add_row(model, *(f"{value:.3g}" for value in values))
    Console().print(table)
    line = {"benchmark": "train_memory", "vocab_size": VOCAB_SIZE, "rows": rows}
    print(
        json.dumps(line | {k: getattr(arguments, k) for k in ("precision", "device", "utterance")})
    )


if __name__ == "__main__":
    main()
