"""What tests/test_batch_ray.py runs where there is no network but the machine's own: Ray, for real.

The commands run in this process. Processes are visible that this one has begun, and no others.
"""

import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from sounds import record_tree
from stand_ins import tiny_checkpoint

from hyperasr import cli
from hyperasr.batch.journal import NAME

FILES = 24
LONG = (3, 11)  # of several windows


@pytest.fixture(scope="session", autouse=True)
def loopback():
    """The one network there is, which is off at first."""
    with socket.socket() as any_socket:
        up = struct.pack("16sh", b"lo", 0x41)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS


@pytest.fixture(scope="session")
def cluster(loopback):
    """Two nodes of one core each; a death of one is noticed soon."""
    common = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    checks = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 300,
        "health_check_failure_threshold": 3,
    }
    head = {"include_dashboard": False, "_system_config": checks, **common}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.another = cluster.add_node(**common)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model, recordings of several lengths, and a file that is none."""
    folder = tmp_path_factory.mktemp("cluster")
    tiny_checkpoint(folder / "model")
    record_tree(folder / "in", FILES, LONG)
    (folder / "in" / "bad.wav").write_text("no recording")
    return folder


@pytest.fixture
def batch(folder, monkeypatch, capfd):
    """Run `hyperasr batch`; gives the exit code and what was said."""

    def batch(out, *options, model="model"):
        monkeypatch.chdir(folder)
        arguments = ["hyperasr", "batch", "in", "-o", out, "-m", model, "-f", "all", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        assert said.out == ""
        assert all(line.startswith("hyperasr: ") for line in said.err.splitlines()), said.err
        return ended.value.code or 0, said.err

    return batch


def outputs(folder):
    """Every file that is there, but for the two that tell times."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if path.name not in (NAME, "report.json")
    }


def records(folder):
    return sorted((folder / NAME).read_text().splitlines())


@pytest.fixture
def expected(batch, folder):
    """A folder with what one machine writes."""
    out = folder / "expected"
    if not out.exists():
        code, said = batch(out)
        assert code == 1
        assert "in/bad.wav: not audio" in said
        assert "1 of 25 files failed" in said
        assert len(outputs(out)) > 4 * FILES
    return out


def when(out, lines, act):
    """Do something as soon as the journal has so many lines."""

    def wait():
        journal = out / NAME
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
            time.sleep(0.002)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def rays(*names):
    """The ids of Ray's processes that run and have one of these names."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(name in (path / "cmdline").read_text() for name in names):
                found.append(int(path.name))
    return found


def test_ctrl_c_ends_it_soon_with_all_that_it_began_and_one_machine_goes_on(
    batch, expected, tmp_path
):
    """Without an address: on a cluster of this machine alone."""
    pressed = []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = when(tmp_path, 3, press)
    code, said = batch(tmp_path, "--engine", "ray")
    took = time.monotonic() - pressed[0]
    thread.join()
    assert code == 130
    assert "the same command goes on" in said
    assert took < 60  # on a machine that is slow
    begun = len(records(tmp_path))
    assert 3 <= begun < FILES
    for _ in range(100):  # what is killed takes a moment to go
        if rays("raylet", "ray::"):
            time.sleep(0.1)
    assert not rays("raylet", "ray::")
    code, said = batch(tmp_path)
    assert code == 1
    assert f"{begun} done before" in said
    assert outputs(tmp_path) == outputs(expected)
    assert records(tmp_path) == records(expected)


def test_a_model_that_nodes_do_not_have_is_told(batch, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("hyperasr.batch.ray.digests", lambda order: {})  # here all is well
    options = ["--engine", "ray", "--address", cluster.address]
    code, said = batch(tmp_path, *options, model="nowhere")
    assert code == 3
    said = [line for line in said.splitlines() if "waiting" not in line]  # on a slow machine
    assert len(said) == 1
    assert said[0].startswith("hyperasr: node 127.0.0.1: nowhere: no such checkpoint folder")


def test_no_gpu_is_told(batch, cluster, tmp_path):
    options = ["--engine", "ray", "--address", cluster.address]
    code, said = batch(tmp_path, *options, "--device", "cuda")
    assert code == 2
    assert "the cluster has no GPU" in said


def test_a_run_begun_on_one_machine_goes_on_where_a_node_and_all_actors_die(
    batch, cluster, expected, tmp_path
):
    thread = when(tmp_path, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert batch(tmp_path)[0] == 130
    thread.join()
    begun = len(records(tmp_path))
    assert 3 <= begun < FILES - 8
    at_work = []

    def kill():
        for actor in rays("ray::Ear"):
            os.kill(actor, signal.SIGKILL)
        cluster.remove_node(cluster.another, allow_graceful=False)
        at_work.append(FILES - len(records(tmp_path)))

    thread = when(tmp_path, begun + 2, kill)
    code, said = batch(tmp_path, "--engine", "ray", "--address", cluster.address)
    thread.join()
    assert code == 1
    assert f"25 recordings, {begun} done before" in said
    assert "in/bad.wav: not audio" in said
    assert "1 of 25 files failed" in said
    assert at_work[0] > 0
    assert outputs(tmp_path) == outputs(expected)
    assert records(tmp_path) == records(expected)
