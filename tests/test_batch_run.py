"""Running a plan, with engines that a reader can follow in the place of a model."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperasr.batch import run as module
from hyperasr.batch.journal import Journal
from hyperasr.batch.plan import find, mirror
from hyperasr.batch.report import Report, length
from hyperasr.batch.run import Leftovers, finished, local, run
from hyperasr.errors import AudioError, OutputError
from hyperasr.transcript import Segment, Transcript, Word


def transcript(path, seconds=2.0):
    """Its only word is what the file holds."""
    word = Word(path.read_text(), 0.0, seconds, 0.9)
    return Transcript(str(path), seconds, (Segment(0.0, seconds, (word,)),))


def in_order(items):
    for item in items:
        yield item, transcript(item.path)


def all_backwards(items):
    for item in reversed(list(items)):
        yield item, transcript(item.path)


def render(found):
    return {"txt": f"{found.text}\n", "json": f'"{found.text}"\n'}


@pytest.fixture
def items(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "x.wav").write_text(f"word {name}")
    return mirror(find([str(tmp_path / "in")]))


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "out") as journal:
        yield journal


def contents(folder):
    names = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_text() for path in names}


EXPECTED = {
    f"{name}/x.{suffix}": text
    for name in "abc"
    for suffix, text in (("json", f'"word {name}"\n'), ("txt", f"word {name}\n"))
}


@pytest.mark.parametrize("engine", [in_order, all_backwards])
def test_whatever_the_order_of_an_engine_every_result_is_written_and_remembered(
    items, journal, engine
):
    outcomes = list(run(items, engine, render, journal, "s"))
    assert {outcome.item for outcome in outcomes} == set(items)
    assert all((o.error, o.seconds, o.words) == (None, 2.0, 1) for o in outcomes)
    assert contents(journal.folder) == EXPECTED
    assert set(finished(items, journal, "s", ["txt", "json"])) == set(items)


@given(st.integers(0, 3), st.sets(st.sampled_from(["a/x.txt", "b/x.json", "c/x.txt"])))
def test_a_run_that_ended_anywhere_is_completed_by_the_next(tmp_path_factory, ended, deleted):
    folder = tmp_path_factory.mktemp("run")
    for name in ("a", "b", "c"):
        (folder / f"{name}").mkdir()
        (folder / name / "x.wav").write_text(f"word {name}")
    items = mirror(find([str(folder)]))
    with Journal(folder / "out") as journal:
        work = run(items, in_order, render, journal, "s")
        for _ in range(ended):
            next(work)
        work.close()
    for name in deleted:
        (folder / "out" / name).unlink(missing_ok=True)
    with Journal(folder / "out") as journal:
        done = finished(items, journal, "s", ["txt", "json"])
        names = "abc"[:ended]
        whole = [name for name in names if not any(gone[0] == name for gone in deleted)]
        assert [item.result for item in done] == [f"{name}/x" for name in whole]
        again = list(run([i for i in items if i not in done], in_order, render, journal, "s"))
        assert len(again) == 3 - len(whole)
    assert contents(folder / "out") == EXPECTED


def test_one_that_cannot_be_read_or_written_does_not_stop_the_others(items, journal):
    (journal.folder / "b" / "x.txt").mkdir(parents=True)  # where the file should be

    def engine(items):
        for item in items:
            bad = item.result == "a/x"
            yield item, AudioError("not audio") if bad else transcript(item.path)

    bad, unwritten, good = run(items, engine, render, journal, "s")
    assert str(bad.error) == "not audio"
    assert isinstance(unwritten.error, OutputError)
    assert not unwritten.hopeless
    assert good.error is None
    assert list(journal.records) == ["c/x"]


def test_a_recording_that_changes_or_goes_while_it_is_heard_is_not_called_done(items, journal):
    def engine(items):
        for item in items:
            found = transcript(item.path)
            if item.result == "a/x":
                item.path.write_text("another, longer word")
            if item.result == "b/x":
                item.path.unlink()
            yield item, found

    changed, gone, good = run(items, engine, render, journal, "s")
    assert "changed while it was heard" in str(changed.error)
    assert "changed while it was heard" in str(gone.error)
    assert good.error is None
    assert list(contents(journal.folder)) == ["c/x.json", "c/x.txt"]
    assert list(journal.records) == ["c/x"]


@pytest.mark.parametrize(
    ("number", "hopeless"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EISDIR, False)]
)
def test_a_full_disk_is_hopeless_and_a_bad_name_is_not(
    items, journal, monkeypatch, number, hopeless
):
    def fail(text, path):
        raise OutputError("cannot write") from OSError(number, "")

    monkeypatch.setattr(module, "save", fail)
    outcome, *_ = run(items, in_order, render, journal, "s")
    assert outcome.hopeless == hopeless


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from test_batch_run import *
folder = Path(sys.argv[2])
items = mirror(find([str(folder / "in")]))
render = lambda found: {"txt": found.text * (200 if " b" in found.text else 1)}
with Journal(folder / "out") as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
    for outcome in run(items, in_order, render, journal, "s"):
        print(outcome.error)
    print(journal.broken)
"""


def test_a_file_size_limit_leaves_no_half_written_file_and_a_journal_that_goes_on(tmp_path, items):
    """In a process of its own, as it holds for all that a process writes; a record takes 240."""
    command = [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second, third, broken = done.stdout.splitlines()
    assert first == "None"
    assert second.endswith("raise the file size limit (ulimit -f) or write to another folder")
    assert third.startswith(f"cannot write {tmp_path}/out/.hyperasr-journal.jsonl: ")
    assert broken == "True"
    assert not list((tmp_path / "out").rglob("*.part"))
    with Journal(tmp_path / "out") as journal:
        assert [item.result for item in finished(items, journal, "s", ["txt"])] == ["a/x"]
        list(run(items[1:], in_order, lambda found: {"txt": found.text}, journal, "s"))
        assert len(finished(items, journal, "s", ["txt"])) == 3


def test_half_written_files_of_dead_runs_go_and_those_of_the_living_stay(items, tmp_path):
    out = tmp_path / "out"
    dead, alive = out / "a/.hyperasr-dead.part", out / "a/.hyperasr-alive.part"
    elsewhere = out / "z/.hyperasr-other.part"  # no folder of this plan
    for path in (dead, alive, elsewhere):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    leftovers = Leftovers(out, items)
    alive.write_text("more")
    leftovers.remove()
    assert not dead.exists()
    assert alive.exists()
    assert elsewhere.exists()


def test_the_engine_of_one_machine_pairs_each_item_with_its_transcript(items):
    class Transcriber:
        def as_finished(self, paths, heard):
            ahead = list(paths)  # several files are at work at once
            for number, path in reversed(list(enumerate(ahead))):
                heard(1.0)
                yield number, transcript(path)

    seconds = []
    for item, found in local(Transcriber(), seconds.append)(items):
        assert found.source == str(item.path)
    assert len(seconds) == len(items)


def test_who_starts_a_file_is_told_when_the_engine_takes_it(items, journal):
    told = []
    work = run(items, in_order, render, journal, "s", told.append)
    next(work)
    assert told == [items[0]]


def test_the_report_counts_what_was_done_failed_and_left(items, journal):
    def engine(items):
        first, second, _ = items
        yield first, AudioError("not audio")
        yield second, transcript(second.path, 3600.0)

    outcomes = tuple(run(items, engine, render, journal, "s"))
    report = Report("m", "sha", {"lm": None}, 5, 2, outcomes, (), 60.0)
    found = report.as_json()
    assert found["files"] == {
        "planned": 5, "done_before": 2, "done": 1, "without_speech": 0, "failed": 1, "left": 1,
    }  # fmt: skip
    assert (found["audio_hours"], found["rtfx"]) == (1.0, 60.0)
    assert found["failures"] == [{"path": str(items[0].path), "reason": "not audio"}]
    assert [slow["path"] for slow in found["slowest"]] == [str(items[1].path)]
    assert report.lines() == ["1 file, 1.00 hours of sound in 1.0 minutes: 60 times real time"]


def test_nothing_heard_has_no_speed():
    report = Report("m", "sha", {}, 0, 0, (), (), 0.0)
    assert report.as_json()["rtfx"] is None
    assert report.lines() == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.04, "9.0 s"), (90, "1.5 minutes"), (4000, "1.11 hours")]
)
def test_lengths_are_told_in_the_unit_that_fits(seconds, text):
    assert length(seconds) == text
