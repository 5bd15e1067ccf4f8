"""What runs on the nodes of a cluster, and what they have to offer. No Ray here.

A node loads the model as the driver orders it, says what it has loaded, and hears recordings.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperasr import __version__
from hyperasr.batch.journal import decisive_files, digest
from hyperasr.errors import AudioError, CheckpointError, ConfigError, HyperAsrError
from hyperasr.stretches import HearingOptions
from hyperasr.transcript import Transcript

if TYPE_CHECKING:
    from hyperasr.decoding import DecodingOptions

CORES = 8
"""CPU cores of an actor, at most, where nobody says how many."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns that this will be so
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else `uv run` copies the current folder to every node
}


def hush() -> None:
    """Let Ray say less than it would. Call before it is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True, slots=True)
class Order:
    """What an actor loads, and how it hears: as Transcriber.load takes it."""

    model: str
    batch_size: int
    compute_type: str
    decoding: "DecodingOptions"
    hearing: HearingOptions
    folder: str = ""
    """What names of files are relative to, for another machine."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an actor has loaded: all have to agree."""

    name: str
    sha256: str
    settings: dict[str, Any]
    version: str
    files: dict[str, str]
    """The names of the model's files, and their digests."""
    said: tuple[str, ...] = ()
    """What a person should know."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or some cores, of a node."""

    node: str
    address: str
    number: int
    cores: int
    gpu: bool


class AbsentError(AudioError):
    """The node does not see the recording."""


class Ear:
    """What runs in an actor: a Transcriber, asked by several threads."""

    def load(self, order: Order, device: Device) -> Loaded | HyperAsrError:
        """Load the model on the device, or say why that cannot be."""
        os.chdir(order.folder if os.path.isdir(order.folder) else "/")
        said: list[str] = []
        try:
            files = digests(order)  # first, as that is soon done
            from hyperasr import runtime  # the driver imports this file too, and needs no torch

            runtime.settle(max(1, device.cores))
            from hyperasr.transcribe import Transcriber

            self.transcriber = Transcriber.load(
                order.model,
                "cuda" if device.gpu else "cpu",
                order.batch_size,
                order.compute_type,
                order.decoding,
                said.append,
                order.hearing,
            )
        except HyperAsrError as error:
            return error
        heard = self.transcriber
        return Loaded(heard.name, heard.sha256, heard.settings, __version__, files, tuple(said))

    def hear(self, path: Path) -> Transcript | AudioError:
        """What is said in a recording, or why that cannot be known."""
        self.transcriber.listener.wait_for_room()
        try:
            return self.transcriber(path)
        except AudioError as error:  # as its own kind it might not survive the way to the driver
            return AudioError(str(error)) if path.exists() else AbsentError(str(error))


def digests(order: Order) -> dict[str, str]:
    """The files of the model as this machine sees them. Raises CheckpointError."""
    return {path.name: digest(path) for path in decisive_files(order.model, order.decoding.lm)}


# Nodes -> devices


def devices(nodes: Iterable[dict[str, Any]], gpu: bool, threads: int) -> list[Device]:
    """The devices of living nodes: their GPUs, each with its share of the cores, or all cores.

    An actor without a GPU gets `threads` cores; 0 shares them out by up to CORES.
    """
    found = []
    for node in nodes:
        resources = node["Resources"] if node["Alive"] else {}
        cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        count = gpus if gpu else (cores // threads if threads else -(-cores // CORES))
        count = min(1, cores) if threads > cores and not gpu else count
        each = min(cores // max(1, count), threads or CORES)
        address = str(node["NodeManagerAddress"])
        found += [Device(node["NodeID"], address, number, each, gpu) for number in range(count)]
    return found


def check(found: Loaded, files: Mapping[str, str], others: Mapping[str, Any]) -> None:
    """See that a node hears as the driver and other nodes would; the compute type is left out.

    `files` are the driver's digests, `others` the settings of another node. Raises CheckpointError
    or ConfigError that says what to do.
    """
    if found.version != __version__:
        raise ConfigError(f"has hyperasr {found.version}, not {__version__}: install the same")
    unlike = [name for name, value in files.items() if found.files.get(name) != value]
    if unlike:
        raise CheckpointError(f"its {unlike[0]} is not the one that is here: copy the model again")
    names = {*others, *found.settings} - {"compute_type"}
    unlike = sorted(name for name in names if found.settings.get(name) != others.get(name))
    if unlike:
        value = found.settings.get(unlike[0])
        raise ConfigError(f"its {unlike[0]} is {value}: install the packages that others have")
