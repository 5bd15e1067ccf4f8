"""Options that several commands share: declared once, so they read the same everywhere."""

from typing import Annotated

import typer

Model = Annotated[
    str, typer.Option("--model", "-m", envvar="HYPERASR_MODEL", help="Checkpoint folder or name.")
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, mps. auto: a CUDA GPU if there is one.")
]
ComputeType = Annotated[
    str,
    typer.Option(
        help="auto, float32, bfloat16, int8. auto: bfloat16 where the machine has it and the "
        "answers stay close, else float32."
    ),
]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as there are cores.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Windows of 16 s that are encoded together.")]
BeamSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Texts that are followed at once; 1: greedy.", show_default="the model's own"
    ),
]
Lm = Annotated[
    str | None,
    typer.Option(
        help="Language model: ARPA (also .gz) or KenLM binary; none: without.",
        show_default="the model's own",
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(min=0.0, help="Weight of the language model.", show_default="the model's own"),
]
Beta = Annotated[
    float | None, typer.Option(help="Reward for each word.", show_default="the model's own")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
