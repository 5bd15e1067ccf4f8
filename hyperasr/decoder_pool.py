"""Decoders in processes of their own, so that the encoder and the searches go on side by side.

The processes are forked once, from a decoder that is ready: the language model is shared and
nothing is loaded again. Where there is no fork the decoder works in this process.
"""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait

import numpy as np
from numpy.typing import NDArray

from hyperasr.decoder import Decoder
from hyperasr.transcript import Segment
from hyperasr.windows import Utterance


class DecoderPool:
    """Decodes utterances, in `processes` processes; 0 is in this one."""

    def __init__(self, decoder: Decoder, processes: int = 0):
        self._processes: ProcessPoolExecutor | None = None
        self._decoder = decoder
        if processes and "fork" in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context("fork")
            self._processes = ProcessPoolExecutor(processes, context, _adopt, (decoder,))
            self._processes.submit(int).result()  # fork now, before other threads are about

    def submit(self, utterance: Utterance) -> "Future[Segment]":
        """The segment that an utterance is, at some time; in half precision on the way."""
        log_probs = utterance.log_probs.astype(np.float16)
        if self._processes is not None:
            try:
                return self._processes.submit(_decode, log_probs, utterance.first)
            except BrokenProcessPool:
                self._processes = None
        done: Future[Segment] = Future()
        done.set_result(self._decoder(log_probs, utterance.first))
        return done

    def result(self, future: "Future[Segment]", utterance: Utterance) -> Segment:
        """What `submit` promised; decoded here if the process was killed meanwhile."""
        try:
            return future.result()
        except BrokenProcessPool:
            self._processes = None
            return self._decoder(utterance.log_probs.astype(np.float16), utterance.first)

    def close(self) -> None:
        """End the processes; what was submitted and not fetched is lost.

        Waits for them: a program that ends while the executor is half closed prints an error, as
        `_python_exit` of concurrent.futures.process writes to a pipe that is gone.
        """
        if self._processes is not None:
            self._processes.shutdown(cancel_futures=True)

    def __del__(self) -> None:
        """Close a pool that nobody uses any more."""
        with suppress(RuntimeError):  # the executor's own thread cannot wait for itself
            self.close()


_mine: Decoder | None = None
"""The decoder of a process of the pool."""


def _adopt(decoder: Decoder) -> None:
    global _mine
    _mine = decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told and ends the pool
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """Do not outlive a parent that was killed: nobody would end this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _decode(log_probs: NDArray[np.float16], first_frame: int) -> Segment:
    assert _mine is not None
    return _mine(log_probs, first_frame)
