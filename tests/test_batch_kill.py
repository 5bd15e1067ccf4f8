"""Real runs that are killed, and real runs in another order: the same bytes in the end.

The runs are processes forked from one that has imported torch already.
"""

import multiprocessing
import os
import sys
from itertools import count

import numpy as np
import pytest
from sounds import record_tree
from stand_ins import tiny_checkpoint

from hyperasr import cli
from hyperasr.batch.journal import NAME

FILES = 24
LONG = (3, 11)  # of several windows, as a batch has
TO_BE_THE_SAME = ("-f", "all", "--device", "cpu", "--compute-type", "float32", "--quiet")


def hyperasr(*arguments):
    """The command, in a process of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.argv = ["hyperasr", *map(str, arguments)]
    cli.main()


@pytest.fixture(scope="module")
def start():
    """Start the command in a process that can be killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hyperasr.transcribe", "hyperasr.cli", __name__])

    def start(*arguments):
        process = context.Process(target=hyperasr, args=arguments)
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A model and recordings of several lengths."""
    folder = tmp_path_factory.mktemp("kill")
    tiny_checkpoint(folder / "model")
    record_tree(folder / "in", FILES, LONG)
    return folder


def outputs(folder):
    """Every file that is there, but for the two that tell times."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if path.name not in (NAME, "report.json")
    }


@pytest.fixture(scope="module")
def batch(start, recordings):
    """Start `hyperasr batch` on inputs of the folder; gives the process."""

    def batch(out, *options, inputs=("in",)):
        named = [name if name.startswith("@") else recordings / name for name in inputs]
        model = recordings / "model"
        return start("batch", *named, "-o", out, "-m", model, *TO_BE_THE_SAME, *options)

    return batch


def ended(process):
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def expected(batch, tmp_path_factory):
    """What an uninterrupted run writes."""
    out = tmp_path_factory.mktemp("expected")
    assert ended(batch(out)) == 0
    found = outputs(out)
    assert len(found) >= 4 * FILES
    assert len({content for name, content in found.items() if name.endswith("txt")}) > FILES / 2
    return found


def test_a_run_killed_three_times_ends_with_the_same_bytes(batch, expected, tmp_path):
    chance = np.random.default_rng()
    journal = tmp_path / NAME
    kills = 0
    for lines in sorted(chance.choice(FILES - 2, 3, replace=False)):
        process = batch(tmp_path)
        for _ in count():
            done = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if done >= lines or process.exitcode is not None:
                break
            process.join(0.001)
        process.kill()
        kills += ended(process) == -9
    assert kills == 3
    assert ended(batch(tmp_path)) == 0
    assert outputs(tmp_path) == expected


@pytest.mark.parametrize("size", [1, 7])
def test_how_many_are_encoded_together_changes_no_byte(batch, expected, tmp_path, size):
    assert ended(batch(tmp_path, "--batch-size", size)) == 0
    assert outputs(tmp_path) == expected


def test_the_order_of_the_files_changes_no_byte(batch, expected, tmp_path, recordings):
    paths = sorted((recordings / "in").rglob("*.wav"), reverse=True)
    backwards = tmp_path / "list.txt"
    backwards.write_text("".join(f"{path}\n" for path in paths))
    assert ended(batch(tmp_path / "out", inputs=[f"@{backwards}"])) == 0
    assert outputs(tmp_path / "out") == expected
