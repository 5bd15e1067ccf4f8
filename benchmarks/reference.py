"""This encoder against the reference's, the package speechbrain: time, training step, memory.

    python benchmarks/reference.py [--threads 1]

Both are the 8M HyperConformer in float32 from normalised features to CTC log-probabilities, with
random weights; they alternate in one run, medians after a warm-up. Ours is also run in bfloat16.
A training step is forward, CTC loss and backward on 12 x 15 s. Memory is the peak of one pass
above that of the loaded model, each in a process of its own. The reference
ends at 119.99 s; for 300 s its position tables are made longer.
"""

import argparse
import json
import subprocess
import sys

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hyperasr import runtime
from hyperasr.bench.measure import Peak, alternate, timed
from hyperasr.compute import fold
from hyperasr.encoder import CONFIGS, Encoder

FRAMES_PER_SECOND = 100
SHAPES = ((1, 30), (8, 15))  # utterances x seconds


class Reference(nn.Module):
    """The recipe's front end, encoder and CTC head."""

    def __init__(self, frames: int = 2500) -> None:
        """`frames` is the size of the position table; the recipe's 2500 end at 119.99 s."""
        super().__init__()
        from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
        from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR

        self.cnn = ConvolutionFrontEnd(
            input_shape=(8, 10, 80),
            num_blocks=2,
            num_layers_per_block=1,
            out_channels=(64, 32),
            kernel_sizes=(3, 3),
            strides=(2, 2),
            residuals=(False, False),
        )
        self.transformer = TransformerASR(
            tgt_vocab=29,
            input_size=640,
            d_model=144,
            nhead=8,
            d_ffn=576,
            num_encoder_layers=10,
            num_decoder_layers=4,
            encoder_module="conformer",
            attention_type="hypermixing",
            normalize_before=True,
            causal=False,
            max_length=frames,
        )
        for layer in self.transformer.encoder.layers:
            codes = layer.mha_layer.positional_encoding
            layer.mha_layer.positional_encoding = type(codes)(144, max(3000, frames))
        self.ctc = nn.Linear(144, 29)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 80) and (B,) -> log-probabilities and their lengths."""
        share = lengths / features.shape[1]
        x = self.transformer.encode(self.cnn(features), share)
        return self.ctc(x).log_softmax(dim=-1), (share * x.shape[1]).round().long()


def build(name: str, seconds: int = 30) -> nn.Module:
    torch.manual_seed(0)
    if name == "reference":
        return Reference(max(2500, 26 * seconds)).eval()
    return Encoder(CONFIGS["hyperconformer-8m"]).eval()


def batch(utterances: int, seconds: int) -> tuple[Tensor, Tensor]:
    frames = seconds * FRAMES_PER_SECOND + 1
    return torch.randn(utterances, frames, 80), torch.full((utterances,), frames)


def train_step(model: nn.Module, features: Tensor, lengths: Tensor) -> None:
    log_probs, sizes = model(features, lengths)
    targets = torch.arange(150).remainder(28).add(1).repeat(len(features), 1)
    counts = torch.full((len(features),), 150)
    loss = nn.functional.ctc_loss(log_probs.transpose(0, 1), targets, sizes, counts)
    loss.backward()
    model.zero_grad()


def peak_mib(name: str, seconds: int, training: bool) -> float:
    command = [sys.executable, __file__, "--peak", name, str(seconds), str(int(training))]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report_peak(name: str, seconds: int, training: bool) -> None:
    model = build(name, seconds)
    if name == "ours" and not training:
        model = fold(model)
    peak = Peak("cpu")
    if training:
        train_step(model.train(), *batch(12, seconds))
    else:
        with torch.inference_mode():
            model(*batch(1, seconds))
    print(peak.mib())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    runtime.settle(arguments.threads)
    if arguments.peak:
        name, seconds, training = arguments.peak
        report_peak(name, int(seconds), training == "1")
        return
    models = {name: build(name) for name in ("reference", "ours")}
    ours = models["ours"]
    folded = {
        "reference": models["reference"],
        "ours": fold(ours),
        "ours, bfloat16": fold(ours, torch.bfloat16),
    }
    rows: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        for utterances, seconds in SHAPES:
            data = batch(utterances, seconds)
            works = {n: timed(lambda m=m, d=data: m(*d)) for n, m in folded.items()}
            rows[f"{utterances} x {seconds} s, s"] = alternate(works, arguments.repeats)
    for model in models.values():
        model.train()
    data = batch(12, 15)
    works = {n: timed(lambda m=m: train_step(m, *data)) for n, m in models.items()}
    rows["training step, s"] = alternate(works, min(3, arguments.repeats))
    for seconds in (30, 119, 300):
        rows[f"peak at {seconds} s, MiB"] = {n: peak_mib(n, seconds, False) for n in models}
    rows["peak of a training step, MiB"] = {n: peak_mib(n, 15, True) for n in models}

    table = Table(title=f"hyperconformer-8m, {arguments.threads} thread(s)")
    for heading in ("", "reference", "ours", "ratio", "ours, bfloat16", "ratio"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        half = row.get("ours, bfloat16")
        cells = [row["reference"], row["ours"], row["reference"] / row["ours"]]
        cells += [half, row["reference"] / half] if half else []
        table.add_row(name, *(f"{cell:.3g}" for cell in cells))
    Console().print(table)
    print(json.dumps({"benchmark": "reference", "threads": arguments.threads, "rows": rows}))


if __name__ == "__main__":
    main()
