"""Decoder processes: the same answers in the same order, whatever becomes of the processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from heard import spelled

from hyperasr.decoder import Decoder, DecoderSettings
from hyperasr.decoder_pool import DecoderPool
from hyperasr.tokens import CharTokens
from hyperasr.transcript import Segment
from hyperasr.windows import Utterance

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
HERE = os.path.dirname(__file__)


def utterances(count):
    """Utterances of different lengths, each a second after the one before."""
    return [Utterance(25 * n, np.full((n + 1, 3), -n, np.float32)) for n in range(count)]


def decode_all(pool, work):
    pending = [(pool.submit(utterance), utterance) for utterance in work]
    return [pool.result(future, utterance) for future, utterance in pending]


class Length:
    """A stand-in for a decoder: says in which frames it listened, and in which process."""

    def __init__(self):
        self.home = os.getpid()
        self.at_home = 0

    def __call__(self, log_probs, first_frame):
        assert log_probs.dtype == np.float16
        self.at_home += os.getpid() == self.home
        return Segment(first_frame, first_frame + len(log_probs), ())


class Deadly(Length):
    """One whose process is killed at an utterance, as by a machine that is out of memory."""

    def __call__(self, log_probs, first_frame):
        if first_frame == 25 * 3 and os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(log_probs, first_frame)


def spans(segments):
    return [(segment.start, segment.end) for segment in segments]


EXPECTED = [(25 * n, 26 * n + 1) for n in range(12)]


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=needs_fork)])
def test_answers_come_in_order_from_here_or_from_processes(processes):
    decoder = Length()
    pool = DecoderPool(decoder, processes)
    assert spans(decode_all(pool, utterances(12))) == EXPECTED
    assert decoder.at_home == (0 if processes else 12)
    pool.close()
    pool.close()  # a second time is no error


@needs_fork
def test_processes_decode_as_this_one_does():
    tokens = CharTokens()
    decoder = Decoder(tokens.labels, tokens.encode, DecoderSettings(nbest=3))
    work = [
        Utterance(100, spelled("who saw the ancher", tokens.labels, {16: ("o", 0.4)})),
        Utterance(500, spelled("the boat came home", tokens.labels)),
    ]
    there = DecoderPool(decoder, 2)
    assert decode_all(DecoderPool(decoder), work) == decode_all(there, work)
    there.close()


@needs_fork
def test_a_killed_process_loses_nothing():
    decoder = Deadly()
    pool = DecoderPool(decoder, 2)
    assert spans(decode_all(pool, utterances(12))) == EXPECTED
    assert decoder.at_home > 0
    assert spans(decode_all(pool, utterances(12))) == EXPECTED  # and the next file is heard too
    pool.close()


@needs_fork
def test_a_process_killed_between_two_files_loses_nothing():
    pool = DecoderPool(Length(), 2)
    decode_all(pool, utterances(2))
    os.kill(next(iter(pool._processes._processes)), signal.SIGKILL)
    time.sleep(0.1)
    assert spans(decode_all(pool, utterances(12))) == EXPECTED
    pool.close()


@needs_fork
@pytest.mark.parametrize("end", ["closed", "dropped"])
def test_a_pool_that_is_closed_or_dropped_has_no_processes_and_threads_left(end):
    pool = DecoderPool(Length(), 2)
    decode_all(pool, utterances(4))
    processes, thread = pool._processes._processes, pool._processes._executor_manager_thread
    processes = list(processes.values())
    if end == "closed":
        pool.close()
    del pool
    assert not thread.is_alive()
    assert not any(process.is_alive() for process in processes)


def start(code, *arguments):
    """Another Python in a process group of its own, so that Ctrl-C can be pressed there."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([HERE, *sys.path])},
    )


POOL = """
import os, signal
from test_decoder_pool import DecoderPool, Length, decode_all, utterances
pool = DecoderPool(Length(), 2)
decode_all(pool, utterances(4))
"""


@needs_fork
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("pool.close()", 0),
        ("del pool", 0),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
    ids=["forgotten", "closed", "dropped", "killed"],
)
def test_no_process_outlives_the_program(end, code):
    """stdout is at its end only when every process that inherited it has ended."""
    program = start(POOL + end)
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == code


INTERRUPTED = """
import os, sys, time
import numpy as np
from hyperasr.cli import main
from hyperasr.decoder import Decoder
from hyperasr.listener import Listener

def hear(self, waveforms):
    talk = np.full((400, 29), -9, np.float32)
    talk[:, 3] = -0.1
    return [talk] * len(waveforms)

def decode(self, log_probs, first_frame):
    os.write(1, b"decoding\\n")
    time.sleep(1.0)

Listener.hear = hear
Decoder.__call__ = decode
import torch
torch.set_num_threads(2)
main()
"""


@needs_fork
@pytest.mark.parametrize("presses", [1, 3])
def test_ctrl_c_ends_the_program_and_its_processes_without_waiting_for_the_rest(tmp_path, presses):
    from stand_ins import noise, tiny_checkpoint  # the programs above do not wait for torch

    long = noise(tmp_path / "long.wav", seconds=600)  # 40 utterances of a second's work each
    model = tiny_checkpoint(tmp_path / "tiny")
    program = start(INTERRUPTED, "transcribe", long, "-m", model, "--device", "cpu")
    assert [program.stdout.readline() for _ in range(3)] == ["decoding\n"] * 3
    for _ in range(presses):
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGINT)
        time.sleep(0.3 * (presses - 1))
    said, complaints = program.communicate(timeout=60)
    assert (program.returncode, complaints) == (
        130,
        "hyperasr: interrupted; what was finished is written\n",
    )
    assert said.count("decoding") < 20
