"""The engine of many machines: on real nodes where there can be some, and what needs none."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from stand_ins import noise, tiny_checkpoint
from typer.testing import CliRunner

from hyperasr import __version__
from hyperasr.batch import node
from hyperasr.batch.node import AbsentError, Device, Ear, Loaded, Order, check, devices
from hyperasr.cli import app
from hyperasr.decoding import DecodingOptions
from hyperasr.errors import AudioError, CheckpointError, ConfigError
from hyperasr.stretches import HearingOptions
from hyperasr.transcribe import Transcriber
from hyperasr.transcript import Transcript

ALONE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""No network but one of its own, and no process outlives it."""


@pytest.fixture(scope="module")
def alone():
    """What runs a command apart from everything else; skips where nothing does."""
    pytest.importorskip("ray", reason="needs Ray: pip install ray")
    command = ALONE if os.getuid() == 0 else [*ALONE, "--user", "--map-root-user"]
    if not shutil.which("unshare"):
        pytest.skip("needs the program unshare")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"may not run anything apart: {tried.stderr.strip()}")
    return command


@pytest.mark.timeout(400)  # its tests have limits of their own
def test_on_real_nodes(alone):
    """The tests in on_a_cluster.py."""
    tests = Path(__file__).with_name("on_a_cluster.py")
    pytest_ = [sys.executable, "-m", "pytest", str(tests), "-p", "no:cacheprovider"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*alone, *pytest_], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# What a node does, without Ray


CPU = Device("id", "10.0.0.2", 0, 1, gpu=False)


def order(model):
    decoding = DecodingOptions(beam_size=1)
    return Order(str(model), 4, "float32", decoding, HearingOptions(), os.getcwd())


@pytest.fixture
def settled(monkeypatch):
    """An actor settles its process; this one is not its own."""
    monkeypatch.setattr("hyperasr.runtime.settle", lambda threads: None)


def test_a_node_hears_what_this_machine_hears(tmp_path, monkeypatch, settled):
    monkeypatch.chdir(tmp_path)
    model = tiny_checkpoint(tmp_path / "model")
    noise(tmp_path / "a.wav", 2.0)
    asked = order("model")
    monkeypatch.chdir("/")
    ear = Ear()
    found = ear.load(asked, CPU)
    assert isinstance(found, Loaded)
    check(found, node.digests(order(model)), found.settings)
    assert ear.hear(Path("a.wav")) == Transcriber.load(
        "model", "cpu", decoding=asked.decoding, compute_type="float32"
    )("a.wav")


def test_a_node_says_what_it_cannot_do(tmp_path, monkeypatch, settled):
    monkeypatch.chdir(tmp_path)
    ear = Ear()
    refused = ear.load(order("nowhere"), CPU)
    assert isinstance(refused, CheckpointError)
    assert str(refused).startswith("nowhere: no such checkpoint folder")
    tiny_checkpoint(tmp_path / "model")
    ear.load(order("model"), CPU)
    (tmp_path / "bad.wav").write_text("no recording")
    assert type(ear.hear(Path("bad.wav"))) is AudioError
    assert type(ear.hear(Path("gone.wav"))) is AbsentError


def test_a_node_without_the_folder_of_the_driver_finds_nothing_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir("here")
    asked = order("model")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rmdir()
    tiny_checkpoint(tmp_path / "model")  # another one than was meant
    assert isinstance(Ear().load(asked, CPU), CheckpointError)
    assert Path.cwd() == Path("/")


LOADED = Loaded("m", "0" * 64, {"lm": "the model's own"}, __version__, {"lm.binary": "1"})


@pytest.mark.parametrize(
    ("found", "error", "said"),
    [
        (
            Loaded("m", "0", {}, "0.0.1", {}),
            ConfigError,
            f"has hyperasr 0.0.1, not {__version__}: install the same",
        ),
        (
            Loaded("m", "0", LOADED.settings, __version__, {"lm.binary": "2"}),
            CheckpointError,
            "its lm.binary is not the one that is here: copy the model again",
        ),
        (
            Loaded("m", "0", {"lm": None}, __version__, LOADED.files),
            ConfigError,
            "its lm is None: install the packages that others have",
        ),
    ],
)
def test_a_node_that_would_hear_otherwise_is_found_out(found, error, said):
    check(LOADED, LOADED.files, LOADED.settings)
    with pytest.raises(error) as raised:
        check(found, LOADED.files, LOADED.settings)
    assert str(raised.value) == said


def nodes(*resources):
    return [
        {"NodeID": f"{n}", "NodeManagerAddress": f"10.0.0.{n}", "Alive": True, "Resources": found}
        for n, found in enumerate(resources)
    ]


@pytest.mark.parametrize(
    ("resources", "gpu", "threads", "cores"),
    [
        ({"CPU": 2.0}, False, 0, [2]),
        ({"CPU": 64.0}, False, 0, [8] * 8),
        ({"CPU": 12.0}, False, 0, [6, 6]),
        ({"CPU": 12.0}, False, 4, [4, 4, 4]),
        ({"CPU": 2.0}, False, 4, [2]),
        ({}, False, 0, []),
        ({}, False, 4, []),
        ({"CPU": 64.0, "GPU": 4.0}, True, 0, [8] * 4),
        ({"CPU": 4.0, "GPU": 2.0}, True, 0, [2, 2]),
        ({"GPU": 1.0}, True, 0, [0]),
        ({"CPU": 64.0}, True, 0, []),
    ],
)
def test_every_gpu_or_every_few_cores_are_a_device(resources, gpu, threads, cores):
    found = devices(nodes(resources), gpu, threads)
    assert [device.cores for device in found] == cores
    assert len(set(found)) == len(cores)


def test_dead_nodes_have_no_devices():
    dead, alive = nodes({"CPU": 1.0}, {"CPU": 1.0})
    assert [device.node for device in devices([{**dead, "Alive": False}, alive], False, 0)] == ["1"]


# What is told before anything begins


@pytest.fixture
def batch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    tiny_checkpoint(tmp_path / "model")
    noise(tmp_path / "a.wav")

    def batch(*options):
        command = ["batch", "a.wav", "-o", "out", "-m", "model", *options]
        return CliRunner().invoke(app, command)

    return batch


def test_an_address_is_for_ray(batch):
    result = batch("--address", "head:6379")
    assert result.exit_code == 2
    assert "--address is for --engine ray" in result.stderr


def test_without_ray_it_says_how_to_install_it(batch, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "hyperasr.batch.ray", raising=False)
    monkeypatch.delattr("hyperasr.batch.ray", raising=False)
    error = batch("--engine", "ray").exception
    assert isinstance(error, ConfigError)
    assert str(error) == '--engine ray needs Ray: pip install "hyperasr[ray]"'


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "cuda:1"], "device 'cuda:1' is of one machine"),
        (["--address", "head"], "--address head: name HOST:PORT"),
        (["--address", "ray://head:10001"], "--address ray://head:10001: name HOST:PORT"),
    ],
)
def test_wrong_usage_is_told_before_ray_is_asked(batch, options, said):
    pytest.importorskip("ray", reason="needs Ray: pip install ray")
    error = batch("--engine", "ray", *options).exception
    assert isinstance(error, ConfigError)
    assert said in str(error)


def test_an_address_that_does_not_answer_as_a_head_node_does_is_told(batch, monkeypatch):
    pytest.importorskip("ray", reason="needs Ray: pip install ray")
    monkeypatch.setattr("hyperasr.batch.ray.KNOCK", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        error = batch("--engine", "ray", "--address", address).exception
        assert isinstance(error, ConfigError)
        assert f"--address {address} does not answer (timed out)" in str(error)
    error = batch("--engine", "ray", "--address", address).exception
    assert isinstance(error, ConfigError)
    assert "does not answer (connection refused): start Ray there with `ray start" in str(error)


def test_a_recording_that_a_node_does_not_see_and_one_that_kills_are_explained(tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install ray")
    from ray.exceptions import ActorDiedError, RayTaskError

    from hyperasr.batch.plan import Item
    from hyperasr.batch.ray import Worker, explained, given_up

    here = noise(tmp_path / "a.wav")
    worker = Worker(CPU, None)
    missing = AbsentError("no such file: check the name")
    told = explained(missing, worker, Item(here, "a", 1))
    assert str(told).startswith(
        "node 10.0.0.2 does not see it: recordings must lie on a file system"
    )
    assert explained(missing, worker, Item(tmp_path / "gone.wav", "gone", 0)) is missing
    heard = Transcript("a.wav", 1.0, ())
    assert explained(heard, worker, Item(here, "a", 1)) is heard
    assert "3 times" in str(given_up(worker, ActorDiedError()))
    with pytest.raises(RayTaskError):  # a bug keeps its traceback
        given_up(worker, RayTaskError("hear", "Traceback ...", ValueError("x")))
