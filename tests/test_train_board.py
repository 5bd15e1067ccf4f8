"""Event files are read back with TensorBoard's own reader; they say what metrics.jsonl says."""

import math
from pathlib import Path

import pytest
from training import PLAIN, QUIET, Killed, config_of, kill_at, metrics
from training import tiny_models as tiny_models
from training import tones as tones

from hyperasr.errors import ConfigError
from hyperasr.train import board
from hyperasr.train.board import TAGS, Board
from hyperasr.train.loop import Trainer

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a folder by its tag: steps and values."""
    found = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in tags}


def expected(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The same as metrics.jsonl has it."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in metrics(folder):
        if "wer" in entry:
            values = {"wer/all": entry["wer"], "wer/tones": entry["by_source"]["tones"]}
        else:
            values = {tag: entry[name] for name, tag in TAGS.items()}
        for tag, value in values.items():
            found.setdefault(tag, []).append((entry["step"], pytest.approx(value, rel=1e-6)))
    return found


def test_a_run_writes_what_it_says_for_tensorboard_too(tones, tmp_path):
    joint = {"ctc_weight": 0.3, "decoder_layers": 1, "dev": str(tones)}
    Trainer(config_of(tones, **joint, **QUIET), tmp_path, tensorboard=True).run()
    found = events(tmp_path)
    assert found == expected(tmp_path)
    assert [step for step, _ in found["loss/ctc"]] == list(range(1, 13))
    assert {"loss/attention", "learning_rate", "wer/all", "wer/tones"} <= set(found)


def test_a_killed_run_that_goes_on_has_no_step_twice(tones, tmp_path):
    config = config_of(tones, dev=str(tones), save_steps=5, **QUIET)
    with pytest.raises(Killed):
        Trainer(config, tmp_path, tensorboard=True).run(kill_at(9))
    assert len(events(tmp_path)["loss/ctc"]) == 9
    Trainer(config, tmp_path, tensorboard=True).run()
    assert len(list(tmp_path.glob(board.EVENTS))) == 1
    assert events(tmp_path) == expected(tmp_path)


def test_a_run_that_began_without_shows_its_beginning(tones, tmp_path):
    first = Trainer(config_of(tones, **PLAIN), tmp_path)
    first.run(stop=lambda: first.step == 3)
    assert not list(tmp_path.glob(board.EVENTS))
    Trainer(config_of(tones, **PLAIN), tmp_path, tensorboard=True).run()
    assert events(tmp_path) == expected(tmp_path)


def test_a_reader_that_is_looking_on_forgets_what_it_had_read(tmp_path):
    for value in (1.0, 2.0):
        found = Board(tmp_path)
        found.add({"step": 1, "loss": value})
        found.close()
        kept = tmp_path / "kept"
        kept.mkdir(exist_ok=True)
        (path,) = tmp_path.glob(board.EVENTS)
        (kept / f"{path.name}.{value}").write_bytes(path.read_bytes())
    assert events(kept) == {"loss/ctc": [(1, 2.0)]}


def test_what_is_no_number_is_left_out_and_the_mean_has_a_line_of_its_own(tmp_path):
    found = Board(tmp_path)
    found.add({"step": 1, "loss": math.nan, "learning_rate": 0.5})
    found.add({"step": 1, "wer": 0.25, "by_source": {"": 0.25}, "averaged": 3})
    found.close()
    assert events(tmp_path) == {
        "learning_rate": [(1, 0.5)],
        "wer_of_the_mean/all": [(1, 0.25)],
        "wer_of_the_mean/dev": [(1, 0.25)],
    }


def test_a_missing_package_is_told_before_anything_is_read(tones, tmp_path, monkeypatch):
    monkeypatch.setattr(board, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'hyperasr\[tensorboard\]'"):
        Trainer(config_of(tones), tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()
