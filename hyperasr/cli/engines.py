"""`--engine`: who hears the recordings of a batch. No torch at the top of this file."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Annotated, Any

import typer

from hyperasr.batch.node import Order, hush
from hyperasr.batch.plan import Item
from hyperasr.batch.run import Engine, local
from hyperasr.errors import ConfigError


class EngineName(str, Enum):
    """The engines, as typed."""

    local = "local"
    ray = "ray"


EngineChoice = Annotated[
    EngineName,
    typer.Option("--engine", help="local: this machine; ray: all machines of a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="The Ray cluster's head node, or auto: the cluster this machine belongs to.",
        show_default="RAY_ADDRESS, or a cluster of this machine alone",
    ),
]


@dataclass(frozen=True)
class Hearer:
    """A model that is loaded, wherever that is."""

    name: str
    sha256: str
    settings: dict[str, Any]
    engine: Callable[[Callable[[float], None]], Engine]
    """Its engine, which tells of every few seconds that are done."""
    in_order: Callable[[Sequence[Item]], Sequence[Item]] = list
    """The order in which it takes the recordings best."""


def hearer(
    name: EngineName,
    address: str | None,
    order: Order,
    device: str,
    threads: int,
    tell: Callable[[str], None],
) -> AbstractContextManager[Hearer]:
    """Load the model for an engine; for `local`, runtime.settle has set the threads.

    Raises CheckpointError, LanguageModelError or ConfigError.
    """
    if name is EngineName.ray:
        return _on_a_cluster(address or "", order, device, threads, tell)
    return _here(order, device, tell)


@contextmanager
def _here(order: Order, device: str, tell: Callable[[str], None]) -> Iterator[Hearer]:
    from hyperasr.transcribe import Transcriber

    transcriber = Transcriber.load(
        order.model,
        device,
        order.batch_size,
        order.compute_type,
        order.decoding,
        tell,
        order.hearing,
    )
    yield Hearer(
        transcriber.name, transcriber.sha256, transcriber.settings, partial(local, transcriber)
    )


@contextmanager
def _on_a_cluster(
    address: str, order: Order, device: str, threads: int, tell: Callable[[str], None]
) -> Iterator[Hearer]:
    hush()
    try:
        from hyperasr.batch import ray
    except ImportError as error:
        raise ConfigError('--engine ray needs Ray: pip install "hyperasr[ray]"') from error
    from hyperasr.batch.handout import longest_first

    order = replace(order, folder=os.getcwd())
    with ray.joined(address, order, device, threads, tell) as cluster:
        found = cluster.loaded
        yield Hearer(found.name, found.sha256, found.settings, cluster.engine, longest_first)
