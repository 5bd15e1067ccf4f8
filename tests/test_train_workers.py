"""Several workers end where one does, and their runs go on with another number of them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from training import MODELS, PLAIN, config_of, equal, losses, state_in
from training import tiny_models as tiny_models
from training import tones as tones

from hyperasr.errors import WorkerError
from hyperasr.train import learner, loop
from hyperasr.train.config import load_config
from hyperasr.train.loop import NUMBERS, Trainer
from hyperasr.train.parallel import Workers, leave


def work(settings: str, folder: Path) -> None:
    """What each worker does in a process of its own: train, stop, resume, train to the end."""
    torch.set_num_threads(1)
    learner.CONFIGS, loop.REPORT_STEPS = MODELS, 1
    config = load_config(None, json.loads(settings))
    first = Trainer(config, folder / "run")
    rank = first.workers.rank
    first.run(stop=lambda: rank == 1 and first.step == 3)  # only one of them is told
    assert first.step == 4
    if rank == 0:
        shutil.copytree(folder / "run", folder / "half")
    torch.distributed.barrier()
    second = Trainer(config, folder / "run")
    last = second.run()
    gradient = second.learner.encoder.ctc.weight.grad
    torch.save([second.learner.encoder.state_dict(), last.wer, gradient], folder / f"rank{rank}.pt")
    Trainer(config, folder / "begun").run()
    leave()
    assert not threads_of_gloo(), "they would abort the process while the interpreter ends"


def lose(settings: str, folder: Path) -> None:
    """What each worker does here: begin to train; the second ends with its third step."""
    torch.set_num_threads(1)
    learner.CONFIGS, loop.REPORT_STEPS = MODELS, 1
    trainer = Trainer(load_config(None, json.loads(settings)), folder / "run")

    def report(progress: loop.Progress) -> None:
        if progress.step == 3 and trainer.workers.rank == 1:
            sys.exit(7)

    with pytest.raises(WorkerError, match="another worker ended"):
        trainer.run(report)
    assert not [thread for thread in threading.enumerate() if thread.daemon]


def take_turns(settings: str, folder: Path) -> None:
    """What each worker does here: write down when it begins and ends."""
    workers = Workers.join("cpu")

    def write() -> int:
        for moment in ("begins", "ends"):
            with (folder / "turns").open("a") as file:
                file.write(f"{workers.rank} {moment}\n")
            time.sleep(0.2)
        return workers.rank

    assert workers.in_turn(write) == workers.rank
    leave()


def free(name: str) -> bool:
    """Weights that change nothing: their gradient is rounding noise, of which Adam makes steps.

    A softmax does not feel what is added to all its keys.
    """
    return name.endswith("key_value.bias")


def threads_of_gloo() -> list[str]:
    """The native threads of this process that exchange gradients."""
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def end_two(function: str, settings: str, folder: Path) -> list[int]:
    """Run one of the above in two processes that work together; returns their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    call = f"{function}({settings!r}, Path({str(folder)!r}))"
    code = f"from test_train_workers import Path, {function}; {call}"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    shared = os.environ | address | {"WORLD_SIZE": "2", "PYTHONPATH": path}
    workers = [
        subprocess.Popen([sys.executable, "-c", code], env=shared | {"RANK": rank}) for rank in "01"
    ]
    try:
        return [worker.wait(150) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


@pytest.mark.timeout(200)
def test_two_workers_end_where_one_does(tones, tmp_path):
    rates = {"learning_rate": 1e-3, "max_grad_norm": 1e6}  # gradients as they are
    joint = {"ctc_weight": 0.3, "decoder_layers": 1, "vocab_size": 33}
    config = config_of(tones, dev=str(tones), steps=8, **rates, **PLAIN, **joint)
    single = Trainer(config, tmp_path / "one")
    assert any(len(batch) == 1 for batch in single._plan()), "one worker has to be idle at times"
    last = single.run()
    begun = Trainer(config, tmp_path / "begun")
    begun.run(stop=lambda: begun.step == 3)

    assert end_two("work", config.to_json(), tmp_path) == [0, 0]
    ours, theirs = (torch.load(tmp_path / f"rank{rank}.pt") for rank in "01")
    assert equal(ours, theirs)
    weights, wer, gradient = ours
    assert wer == last.wer
    torch.testing.assert_close(
        weights, dict(single.learner.encoder.state_dict()), atol=1e-5, rtol=0
    )
    expected = single.learner.encoder.ctc.weight.grad
    torch.testing.assert_close(gradient, expected, atol=1e-3 * expected.abs().max(), rtol=0)
    assert np.allclose(losses(tmp_path / "run"), losses(tmp_path / "one"), rtol=1e-5, atol=0)

    alone = Trainer(config, tmp_path / "half")  # begun by two, ended by one
    assert alone.step == begun.step == 4
    assert alone.run().wer == last.wer
    for name in ("half", "begun"):  # and the reverse: begun by one, ended by two
        found, expected = state_in(tmp_path / name), state_in(tmp_path / "one")
        assert [found[x] for x in NUMBERS] == [expected[x] for x in NUMBERS]
        for part in ("encoder", "average", "decoder", "decoder_average"):
            ours, theirs = (
                {n: x for n, x in y[part].items() if not free(n)} for y in (found, expected)
            )
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        ours, theirs = losses(tmp_path / name), losses(tmp_path / "one")
        assert np.allclose(ours, theirs, rtol=1e-5, atol=0)


@pytest.mark.timeout(200)
def test_a_worker_that_ends_does_not_leave_the_others_waiting(tones, tmp_path):
    config = config_of(tones, steps=8, **PLAIN)
    assert end_two("lose", config.to_json(), tmp_path) == [0, 7]


def test_what_leaves_a_file_behind_is_done_by_one_before_the_others(tmp_path):
    assert end_two("take_turns", "", tmp_path) == [0, 0]
    turns = (tmp_path / "turns").read_text().splitlines()
    assert turns == ["0 begins", "0 ends", "1 begins", "1 ends"]
    assert Workers().in_turn(lambda: 5) == 5
