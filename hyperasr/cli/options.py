"""Options that several commands share: declared once, so they read the same everywhere."""

from typing import Annotated

import typer

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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
