"""What `hyperasr bench` measures, with tiny models and made-up times; speed is not tested."""

import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import TINY, noise, tiny_checkpoint

from hyperasr.audio import duration
from hyperasr.bench import lengths, stages
from hyperasr.bench.lengths import Comparison, Length, Pass, compare, memory_needed
from hyperasr.bench.measure import (
    LONG,
    Peak,
    _out_of_memory_is_one_error,
    alternate,
    apart,
    free_memory,
    process_peak,
    slope,
    timed,
)
from hyperasr.bench.report import FULL, QUICK, Machine, Plan, Report, measure
from hyperasr.bench.stages import STAGES, Setup, Stage, Windowed
from hyperasr.errors import AudioError, CheckpointError, ManifestError
from hyperasr.manifest import read_manifest

ROOT = Path(__file__).parents[1]
COMPARISON = Comparison(
    (
        Length(10, Pass(0.1, 10.0), Pass(0.2, 20.0)),
        Length(20, Pass(0.2, 20.0), Pass(0.8, 80.0)),
        Length(40, Pass(0.4, 40.0), None),
    ),
    ("conformer at 40 s left out: takes about 320 MiB, 100 are free",),
)
REPORT = Report(
    Machine("a processor", 2, 1, "cpu", None, "Linux", "3.11.7", "2.11.0"),
    "tiny",
    4_420_701,
    4,
    "float32",
    None,
    "speech-like",
    (Stage("encoder", 0.25, 480.0, 30.123456),),
    COMPARISON,
    (Windowed(20, 0.1, 5.0), Windowed(600, 3.0, 5.0)),
    60.0,
)


def silent(what):
    pass


class Work:
    """Takes the seconds it was told, one after the other, and writes down its turns."""

    def __init__(self, name, seconds, turns):
        self.name, self.seconds, self.turns = name, iter(seconds), turns

    def __call__(self):
        self.turns.append(self.name)
        return next(self.seconds)


def test_works_take_turns_and_the_first_turn_only_warms_up():
    turns = []
    works = {"a": Work("a", [4, 1, 2, 3], turns), "b": Work("b", [4, 5, 5, 0], turns)}
    assert alternate(works, rounds=3) == {"a": 2, "b": 5}
    assert "".join(turns) == "abababab"


def test_turns_end_with_the_budget_but_one_is_always_measured():
    turns = []
    assert alternate({"a": Work("a", [2, 1, 1], turns)}, rounds=9, budget=5) == {"a": 1}
    assert len(turns) == 3
    assert alternate({"a": Work("a", [2, 1], turns)}, rounds=9, budget=0) == {"a": 1}


def test_a_long_work_gets_one_turn_after_its_warm_up():
    turns = []
    works = {"long": Work("long", [LONG + 1, 4], turns), "short": Work("short", [1, 2, 3], turns)}
    assert alternate(works, rounds=2) == {"long": 4, "short": 2.5}


def test_no_work_takes_no_time():
    assert alternate({}) == {}
    assert timed(lambda: None)() >= 0.0


@given(
    exponent=st.floats(-1, 3),
    factor=st.floats(1e-3, 1e3),
    xs=st.lists(st.integers(1, 1000), min_size=2, max_size=8, unique=True),
)
def test_the_slope_of_a_power_is_its_exponent(exponent, factor, xs):
    found = slope(xs, [factor * x**exponent for x in xs])
    assert found == pytest.approx(exponent, abs=1e-6)


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 1.0], [-1.0, 0.0, 1.0]])
def test_a_slope_needs_two_points(values):
    assert slope(range(1, len(values) + 1), values) is None


def test_a_fresh_process_answers_with_a_value():
    assert apart(os.getpid) != os.getpid()
    assert apart(divmod, 7, 2) == (3, 1)


def test_what_goes_wrong_in_a_fresh_process_arrives(tmp_path):
    with pytest.raises(ManifestError, match="nowhere"):
        apart(read_manifest, tmp_path / "nowhere.jsonl")
    with pytest.raises(MemoryError):
        apart(signal.raise_signal, int(signal.SIGKILL))
    with pytest.raises(RuntimeError, match="ValueError"):
        apart(int, "seven")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes", MemoryError),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", MemoryError),
        ("shapes cannot be multiplied", RuntimeError),
    ],
)
def test_too_little_memory_is_one_error_whoever_says_it(message, kind):
    with pytest.raises(kind), _out_of_memory_is_one_error():
        raise RuntimeError(message)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_a_peak_is_what_was_held_at_once_since_the_start():
    np.ones(200 * 2**17)  # 200 MiB, at once freed
    peak = Peak("cpu")
    held = np.ones(20 * 2**17)
    assert 19 < peak.mib() < 60
    assert process_peak() > held.nbytes


def test_free_memory_is_a_number_of_bytes():
    assert 2**20 < free_memory("cpu") <= math.inf


def test_made_up_speech_is_the_same_every_time_and_as_long_as_asked(tmp_path):
    samples = stages.speech_like(31)
    assert samples.shape == (31 * 16_000,)
    assert 0.2 < np.abs(samples).max() <= 0.31
    np.testing.assert_array_equal(samples, stages.speech_like(31))
    assert duration(stages.save_speech_like(tmp_path / "a.wav", 2)) == 2.0


def test_every_stage_takes_time_and_says_how_much(tmp_path):
    setup = Setup(str(tiny_checkpoint(tmp_path / "tiny")), "cpu", 1, batch_size=1)
    found = stages.run_stages(list(STAGES), setup, noise(tmp_path / "a.wav", 20.0))
    seconds = dict(zip(STAGES, (spent for spent, _ in found), strict=True))
    assert min(seconds.values()) > 0.0
    assert all(peak >= 0.0 for _, peak in found)


def test_a_recording_too_short_or_missing_is_refused(tmp_path):
    with pytest.raises(AudioError, match="at least 1 s"):
        stages.measure_stages(Setup(), noise(tmp_path / "a.wav", 0.5), silent)
    with pytest.raises(AudioError, match="no such file"):
        stages.measure_stages(Setup(), tmp_path / "nowhere.wav", silent)


@pytest.fixture
def here(monkeypatch):
    """Everything in this process: a fresh one imports torch first."""
    for module in (lengths, stages):
        monkeypatch.setattr(module, "apart", lambda work, *arguments: work(*arguments))


def test_a_pass_runs_in_a_fresh_process():
    found, timed_well = apart(lengths.first_pass, TINY, Setup(threads=1), 2)
    assert not timed_well
    assert found.seconds > 0.0
    assert found.peak_mib > 0.0


def test_both_models_are_measured_at_every_length(here):
    found = compare(TINY, Setup(threads=1), [1, 2], silent, budget=0.0)
    assert [row.audio_seconds for row in found.lengths] == [1, 2]
    assert all(row.time_ratio > 0 and row.time_saved_percent < 100 for row in found.lengths)
    assert found.notes == ()


def test_what_does_not_fit_in_memory_is_left_out_with_a_note(here):
    enough = memory_needed(TINY, 60, "float32") / lengths.USABLE + 1
    setup = Setup(threads=1, compute_type="float32")
    found = compare(TINY, setup, [60], silent, budget=0.0, free=lambda device: enough)
    (row,) = found.lengths
    assert row.hyperconformer is not None
    assert row.conformer is None
    assert row.time_ratio is row.time_saved_percent is None
    (note,) = found.notes
    assert re.fullmatch(r"conformer at 60 s left out: takes about \d+ MiB, \d+ are free", note)


def test_a_pass_that_was_ended_for_lack_of_memory_is_left_out(monkeypatch):
    def ended(*_):
        raise MemoryError("the system ended it")

    monkeypatch.setattr(lengths, "apart", ended)
    found = compare(TINY, Setup(), [1], silent)
    assert found.lengths == (Length(1, None, None),)
    assert len(found.notes) == 2
    assert found.exponent("conformer", "seconds") is None


def test_a_long_pass_is_timed_where_its_memory_is_measured(monkeypatch):
    monkeypatch.setattr(lengths, "apart", lambda *_: (Pass(9.0, 7.0), True))
    monkeypatch.setattr(lengths, "encode", lambda *_: pytest.fail("run again"))
    found = compare(TINY, Setup(), [1], silent)
    assert found.lengths == (Length(1, Pass(9.0, 7.0), Pass(9.0, 7.0)),)


def test_a_long_pass_runs_twice_and_the_second_counts(monkeypatch):
    spent = iter([1.0, LONG + 1, 4.0])  # the first warms up
    monkeypatch.setattr(lengths, "timed", lambda *_: lambda: next(spent))
    found, timed_well = lengths.first_pass(TINY, Setup(threads=1), 1)
    assert (found.seconds, timed_well) == (4.0, True)


def test_attention_needs_memory_by_the_square_of_the_length():
    attention = replace(TINY, mixer="attention")
    linear = [memory_needed(TINY, n, "float32") for n in (100, 200)]
    square = [memory_needed(attention, n, "float32") - linear[0] * n // 100 for n in (100, 200)]
    assert linear[1] == 2 * linear[0]
    assert square[1] == 4 * square[0]
    assert memory_needed(attention, 100, "bfloat16") * 2 == square[0] + linear[0]


def test_the_whole_measurement_of_a_tiny_model(here, tmp_path):
    setup = Setup(str(tiny_checkpoint(tmp_path / "tiny")), "cpu", 1)
    plan = Plan(recording=2, lengths=(1, 2), windowed=(1, 20), budget=0.0, together=True)
    said = []
    document = measure(setup, plan, None, said.append).as_json()
    assert [stage["stage"] for stage in document["stages"]] == list(STAGES)
    assert [row["audio_seconds"] for row in document["windowed"]] == [1, 20]
    assert (document["model"], document["recording"]) == ("tiny", "speech-like")
    assert "conformer, 2 s of audio" in said
    with pytest.raises(CheckpointError):
        measure(Setup("nowhere"), plan, None, silent)


def test_the_document_has_the_documented_keys_and_short_numbers():
    document = REPORT.as_json()
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    section = page.split("## hyperasr bench\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[a-z].*?) \|", section, flags=re.M)
    assert keys(document) == {key for cell in cells for key in re.findall(r"`(.+?)`", cell)}
    assert document["stages"][0]["peak_mib"] == 30.12
    assert document["lengths"][0]["time_saved_percent"] == 50.0
    assert document["lengths"][2]["conformer"] is None
    assert document["growth_exponents"]["conformer_time"] == 2.0
    assert document["windowed_growth_exponent"] == 1.0


def keys(value, before=""):
    """Every path to a value in a document, lists looked through: "machine.cpu"."""
    if isinstance(value, list):
        value = value[0]
    if not isinstance(value, dict):
        return {before}
    return {k for name, v in value.items() for k in keys(v, f"{before}.{name}".lstrip("."))}


def test_the_plans_start_with_what_is_short():
    for plan in (FULL, QUICK):
        assert list(plan.lengths) == sorted(plan.lengths)
        assert list(plan.windowed) == sorted(plan.windowed)


@pytest.mark.parametrize(
    "comparison",
    [COMPARISON, Comparison((), ()), Comparison((Length(5, None, None),), ("left out",))],
)
def test_a_picture_is_the_same_file_for_the_same_numbers(comparison):
    pytest.importorskip("matplotlib")
    from hyperasr.bench.plot import draw

    picture = draw(comparison, "title", "svg")
    assert b"<svg" in picture
    assert picture == draw(comparison, "title", "svg")
    assert draw(comparison, "title", "png").startswith(b"\x89PNG")
