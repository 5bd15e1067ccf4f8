"""The engine of many machines: an actor with the model on each device of a Ray cluster.

    joined -> Cluster -> engine: a Crew of actors, and a Handout that says who hears what

The driver, which is the process that was started, holds the plan, the results and the journal; an
actor gets the name of a recording and gives back a transcript. Ray is imported in this file alone,
torch in the actors.
"""

import logging
import os
import secrets
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hyperasr.batch.handout import CHANCES, Handout
from hyperasr.batch.node import (
    CORES,
    AbsentError,
    Device,
    Ear,
    Loaded,
    Order,
    check,
    devices,
    digests,
)
from hyperasr.batch.plan import Item
from hyperasr.batch.run import Engine
from hyperasr.errors import AudioError, CheckpointError, ClusterError, ConfigError, HyperAsrError
from hyperasr.transcript import Transcript

IN_FLIGHT = 8, 32
"""Recordings that an actor has at once: enough to fill its batches, within these bounds."""
TURN = 0.5
"""Seconds after which the driver looks at the nodes again, and at Ctrl-C."""
PATIENCE = 30.0
"""Seconds without an actor, after which a person is told what the run waits for."""
DESPAIR = 300.0
"""Seconds without a device, after which a run that had some ends."""
KNOCK = 5.0
"""Seconds that an address has to answer in."""
STORE = 80 * 2**20
"""Bytes of shared memory of a cluster of our own; transcripts are small, Ray wants that much."""


# Devices -> actors


@dataclass(frozen=True, eq=False)
class Worker:
    """An actor on a device."""

    device: Device
    actor: Any


class Crew:
    """The actors: one on each device, started again when they die, and on nodes that join."""

    def __init__(self, order: Order, gpu: bool, threads: int, say: Callable[[str], None]):
        self.order = order
        self.loaded: Loaded | None = None
        """What the first has loaded; the others have to agree."""
        self.ready: list[Worker] = []
        self.loading: dict[Any, Worker] = {}
        """By the promise that tells what was loaded."""
        self.refusal: HyperAsrError | None = None
        """Why the first that could not load the model could not."""
        least, most = IN_FLIGHT
        self.most = max(least, min(most, order.batch_size * (threads or CORES)))
        """Recordings that an actor may have at once."""
        self._gpu, self._threads, self._say = gpu, threads, say
        self._files = digests(order)
        self._failures: Counter[Device] = Counter()
        self._left_out: dict[str, bool] = {}
        """What to say of nodes, and whether that was said: not before another can do the work."""
        self._looked = -TURN

    @property
    def there(self) -> bool:
        """Whether anybody hears, or may do so soon."""
        return bool(self.ready or self.loading)

    def tend(self) -> None:
        """Start an actor on every device that has none."""
        if monotonic() - self._looked < TURN:
            return
        taken = {worker.device for worker in (*self.ready, *self.loading.values())}
        for device in devices(ray.nodes(), self._gpu, self._threads):
            if device not in taken and self._failures[device] < CHANCES:
                self._start(device)
        self._looked = monotonic()

    def _start(self, device: Device) -> None:
        options = ray.remote(Ear).options(
            num_cpus=device.cores,
            num_gpus=int(device.gpu),
            max_concurrency=self.most,
            scheduling_strategy=NodeAffinitySchedulingStrategy(device.node, soft=False),
        )
        worker = Worker(device, options.remote())
        self.loading[worker.actor.load.remote(self.order, device)] = worker

    def arrived(self, promise: Any) -> None:
        """An actor has loaded the model, or could not."""
        worker = self.loading.pop(promise)
        device = worker.device
        try:
            found = self._agreeing(ray.get(promise), worker)
        except HyperAsrError as error:
            self._failures[device] = CHANCES  # it would be the same again
            self._refuse(worker, error)
        except RayError as error:
            self._failures[device] += 1
            if self._failures[device] == CHANCES:
                self._refuse(worker, CheckpointError(f"cannot load the model: {last_line(error)}"))
        else:
            if found:
                self._failures[device] = 0
                self.ready.append(worker)
        if self.ready:
            self._tell_who_is_left_out()

    def _refuse(self, worker: Worker, error: HyperAsrError) -> None:
        ray.kill(worker.actor)
        refusal = type(error)(f"node {worker.device.address}: {error}")
        self.refusal = self.refusal or refusal
        self._left_out.setdefault(f"{refusal}; it is left out", False)  # once for all its devices

    def _tell_who_is_left_out(self) -> None:
        for message, told in self._left_out.items():
            if not told:
                self._say(message)
                self._left_out[message] = True

    def _agreeing(self, found: Loaded | HyperAsrError, worker: Worker) -> bool:
        """Whether an actor hears as the others do; otherwise it is told how, and loads again.

        Raises HyperAsrError if it cannot.
        """
        if isinstance(found, HyperAsrError):
            raise found
        check(found, self._files, (self.loaded or found).settings)
        if self.loaded is None:
            self.loaded = found
            self.order = replace(self.order, compute_type=found.settings["compute_type"])
            for message in found.said:
                self._say(message)
        ours, theirs = self.loaded.settings["compute_type"], found.settings["compute_type"]
        if ours != theirs:
            self._say(
                f"node {worker.device.address} would choose {theirs}, but others hear in {ours}: "
                "name one with --compute-type, or the next run may choose otherwise"
            )
            self.loading[worker.actor.load.remote(self.order, worker.device)] = worker
        return ours == theirs

    def lost(self, worker: Worker) -> None:
        """An actor has died, or cannot be trusted any more."""
        if worker in self.ready:
            self.ready.remove(worker)
            ray.kill(worker.actor)

    def dismiss(self) -> None:
        """End all actors."""
        for worker in (*self.ready, *self.loading.values()):
            ray.kill(worker.actor)


def last_line(error: Exception) -> str:
    """What Ray's errors of an actor say last: the reason itself."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


# Actors -> an engine


@dataclass(frozen=True)
class Cluster:
    """A model in the actors of a cluster, ready to listen."""

    crew: Crew
    loaded: Loaded
    say: Callable[[str], None]

    def engine(self, heard: Callable[[float], None]) -> Engine:
        """The engine of this cluster; `heard` is told of the seconds of each recording.

        It raises ClusterError when no device is left for long.
        """
        crew = self.crew

        def engine(items: Iterable[Item]) -> Iterator[tuple[Item, Transcript | HyperAsrError]]:
            handout: Handout[Worker] = Handout(items)
            promised: dict[Any, tuple[Worker, Item]] = {}
            alone = _Alone(self.say)
            while True:
                crew.tend()
                for worker, item in handout.give(crew.ready, crew.most):
                    promised[worker.actor.hear.remote(item.path)] = worker, item
                if handout.ended:
                    return
                alone.since(crew.there)
                for promise in kept([*promised, *crew.loading]):
                    if promise in crew.loading:
                        crew.arrived(promise)
                        continue
                    worker, item = promised.pop(promise)
                    try:
                        result = ray.get(promise)
                    except RayError as error:
                        handout.gone(worker)
                        crew.lost(worker)
                        if not handout.lost(worker, item):
                            yield item, given_up(worker, error)
                        continue
                    handout.done(worker, item)
                    if isinstance(result, Transcript):
                        heard(result.duration)
                    yield item, explained(result, worker, item)

        return engine


class _Alone:
    """Patience with a cluster that has no device."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._begun: float | None = None

    def since(self, there: bool) -> None:
        """Told again and again whether any is there. Raises ClusterError after DESPAIR."""
        if there:
            self._begun = None
        elif self._begun is None:
            self._begun = monotonic()
            self._say("no device is left in the cluster; waiting for a node to join")
        elif monotonic() - self._begun > DESPAIR:
            raise ClusterError(
                "no device is left in the cluster: the same command goes on when there is one"
            )


def kept(promises: list[Any]) -> list[Any]:
    """The promises that are kept by now; waits for one, a TURN long at most."""
    if not promises:
        sleep(TURN)
        return []
    done, others = ray.wait(promises, timeout=TURN)
    more, _ = ray.wait(others, num_returns=len(others), timeout=0) if others else ([], [])
    return [*done, *more]


def given_up(worker: Worker, error: RayError) -> AudioError:
    """Why a recording is not handed out again. Raises an error of Python's: that is a bug."""
    if isinstance(error, RayTaskError):
        raise error
    return AudioError(
        f"whoever hears it dies, {CHANCES} times now, at last on node {worker.device.address}: "
        "if that is for want of memory, cut it into pieces"
    )


def explained(
    result: Transcript | AudioError, worker: Worker, item: Item
) -> Transcript | AudioError:
    """The result, with more to say where the node lacks a file that is here."""
    if isinstance(result, AbsentError) and item.path.exists():
        return AudioError(
            f"node {worker.device.address} does not see it: recordings must lie on a file system "
            "that all nodes share, at the same path"
        )
    return result


# Address -> cluster


@contextmanager
def joined(
    address: str, order: Order, device: str, threads: int, say: Callable[[str], None]
) -> Iterator[Cluster]:
    """A cluster whose first actor has loaded the model.

    `address` is "HOST:PORT", or "auto" for the cluster that this machine belongs to; without one
    RAY_ADDRESS says it, and if that is empty too a cluster of this machine alone is started.

    Raises ConfigError when the address does not answer or there is no such device, CheckpointError,
    LanguageModelError or ConfigError when no node can load the model.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"device {device!r} is of one machine: auto, cpu or cuda with --engine ray"
        )
    # Nothing goes to stdout here, but Ray prints there what befalls its nodes.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), _connected(address):
        gpu = device != "cpu" and bool(devices(ray.nodes(), True, threads))
        if device == "cuda" and not gpu:
            raise ConfigError(
                "the cluster has no GPU: use --device cpu, or join a node that has one"
            )
        if not devices(ray.nodes(), gpu, threads):
            raise ConfigError("the cluster has no CPU or GPU to offer: join a node that has some")
        crew = Crew(order, gpu, threads, say)
        try:
            yield Cluster(crew, _first(crew, say), say)
        finally:
            crew.dismiss()


def _first(crew: Crew, say: Callable[[str], None]) -> Loaded:
    """Wait until one actor has loaded the model. Raises what keeps all of them from it."""
    begun, told = monotonic(), False
    while not crew.ready:
        crew.tend()
        for promise in kept([*crew.loading]):
            crew.arrived(promise)
        if crew.refusal and not crew.there:
            raise crew.refusal
        if not told and monotonic() - begun > PATIENCE:
            say(
                f"waiting for one of {len(crew.loading)} devices: "
                "they load the model, or other work holds them"
            )
            told = True
    assert crew.loaded is not None
    return crew.loaded


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Connected to a cluster, or to one of this machine alone that ends with it."""
    address = address or os.environ.get("RAY_ADDRESS", "")
    on_term = signal.getsignal(signal.SIGTERM)  # Ray puts its own in the place
    short = "/tmp" if os.path.isdir("/tmp") else None  # names of sockets in it may not be long
    with TemporaryDirectory(prefix="hyperasr-", dir=short, ignore_cleanup_errors=True) as folder:
        if address:
            _knock(address)
        try:
            with _speechless():
                ray.init(
                    **({"address": address} if address else _own(folder)),
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
        except (OSError, RuntimeError, ValueError) as error:
            where = f"--address {address}" if address else "a cluster of this machine"
            raise ConfigError(f"{where} cannot be used: {_reason(error)}") from error
        finally:
            signal.signal(signal.SIGTERM, on_term)
        try:
            yield
        finally:
            ray.shutdown()


def _own(folder: str) -> dict[str, Any]:
    """The settings of a cluster of this machine alone, that nobody else can reach or use."""
    if (
        "RAY_AUTH_TOKEN_PATH" not in os.environ
    ):  # else Ray writes one into the home folder, for good
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return {
        "address": "local",
        "include_dashboard": False,
        "object_store_memory": STORE,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": folder,
    }


def _reason(error: Exception) -> str:
    """Why Ray could not connect, in one line."""
    if "InvalidAuthToken" in f"{error} {error.__cause__}":
        return (
            "it wants a token: set RAY_AUTH_MODE=token and copy ~/.ray/auth_token from its head "
            "node, or use --address auto there"
        )
    return " ".join(str(error).split())


@contextmanager
def _speechless() -> Iterator[None]:
    """Nothing to stderr: Ray's C++ side warns there of networks that are not needed."""
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a gRPC client says first, and empty settings; the answer is settings (4) too."""


def _knock(address: str) -> None:
    """See whether a head node answers: Ray itself would try for many minutes.

    Raises ConfigError.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ConfigError(
            f"--address {address}: name HOST:PORT of the head node, or auto for the cluster that "
            "this machine belongs to"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), KNOCK) as door:
            if os.environ.get("RAY_USE_TLS", "0") == "0":  # else nobody answers to plain words
                door.sendall(GREETING)
                if door.recv(9)[3:4] != b"\x04":
                    raise OSError("no head node of a Ray cluster listens there")
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(
            f"--address {address} does not answer ({reason}): start Ray there with "
            f"`ray start --head --port={port}`, or leave it away to use this machine alone"
        ) from error
