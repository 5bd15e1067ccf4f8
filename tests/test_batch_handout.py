"""Who hears what, with workers that a reader can follow: numbers, that die of some recordings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import noise

from hyperasr.batch.handout import CHANCES, Handout, longest_first
from hyperasr.batch.plan import Item

MOST = 4


def items(count):
    return [Item(Path(f"{number}.wav"), f"{number}", 1) for number in range(count)]


def given_to(handout, workers, most=MOST):
    return [(worker, item.result) for worker, item in handout.give(workers, most)]


def test_the_longest_come_first_however_many_bytes_they_have(tmp_path):
    """A file of unknown length counts as long to a byte as the others."""
    short = noise(tmp_path / "short.wav", 1.0, channels=6)
    long = noise(tmp_path / "long.wav", 3.0)
    unknown = tmp_path / "unknown.m4a"
    unknown.write_bytes(bytes(64_000))
    found = longest_first([Item(p, p.stem, p.stat().st_size) for p in (unknown, short, long)])
    assert [item.result for item in found] == ["long", "short", "unknown"]


def test_without_any_known_length_the_largest_come_first(tmp_path):
    found = longest_first([Item(tmp_path / f"{n}.m4a", f"{n}", n) for n in (1, 3, 0, 2)])
    assert [item.size for item in found] == [3, 2, 1, 0]
    assert longest_first([]) == []


def test_items_go_round_among_the_workers_up_to_what_each_may_have():
    handout = Handout(iter(items(6)))
    assert given_to(handout, "ab", 2) == [("a", "0"), ("b", "1"), ("a", "2"), ("b", "3")]
    assert given_to(handout, "ab", 2) == []
    handout.done("b", items(6)[1])
    assert given_to(handout, "ab", 2) == [("b", "4")]
    assert given_to(handout, "abc", 2) == [("c", "5")]


def test_items_are_taken_only_when_somebody_is_there_for_them():
    taken = []

    def source():
        for item in items(9):
            taken.append(item)
            yield item

    handout = Handout(source())
    assert not handout.ended
    assert given_to(handout, []) == []
    assert taken == []
    given_to(handout, "a", 2)
    assert len(taken) == 2


def test_nothing_to_do_ends_at_once():
    handout = Handout([])
    assert given_to(handout, "a") == []
    assert handout.ended


def test_what_was_beside_the_one_that_kills_is_heard_again_alone():
    killer, innocent, other = items(3)
    handout = Handout([killer, innocent, other])
    given_to(handout, "a", 2)
    handout.gone("a")
    assert handout.lost("a", killer)
    assert handout.lost("a", innocent)
    assert given_to(handout, "b", 2) == [("b", "0")]  # alone, though there are two more
    assert handout.lost("b", killer)
    assert given_to(handout, "c", 2) == [("c", "1")]
    handout.done("c", innocent)
    assert given_to(handout, "c", 2) == [("c", "0")]
    assert not handout.lost("c", killer)  # that was too often
    assert given_to(handout, "d", 2) == [("d", "2")]
    handout.done("d", other)
    assert handout.ended


def test_a_worker_that_is_never_idle_makes_room_for_suspects():
    first, *others = items(7)
    handout = Handout([first, *others])
    given_to(handout, "ab", 1)
    handout.gone("a")
    handout.lost("a", first)
    assert given_to(handout, "b", 2) == []  # it is emptied: no more until it is idle
    handout.done("b", others[0])
    assert given_to(handout, "b", 2) == [("b", "0")]
    handout.done("b", first)
    assert len(given_to(handout, "b", 2)) == 2


@given(
    count=st.integers(0, 24),
    killers=st.sets(st.integers(0, 23), max_size=4),
    size=st.integers(1, 4),
    most=st.integers(1, 5),
    choice=st.randoms(use_true_random=False),
)
def test_whoever_dies_everything_ends_once_and_only_what_kills_fails(
    count, killers, size, most, choice
):
    handout = Handout(items(count))
    workers, born, deaths = list(range(size)), size, 0
    at_work, ended = [], {}
    while True:
        at_work += handout.give(workers, most)
        if handout.ended:
            break
        assert at_work, "nobody has anything, but it has not ended"
        worker, item = choice.choice(at_work)
        if int(item.result) not in killers:
            at_work.remove((worker, item))
            handout.done(worker, item)
            assert ended.setdefault(item, "done") == "done"
            continue
        deaths += 1
        workers[workers.index(worker)], born = born, born + 1
        handout.gone(worker)
        for other in [entry for entry in at_work if entry[0] == worker]:
            at_work.remove(other)
            if not handout.lost(*other):
                assert ended.setdefault(other[1], "failed") == "failed"
    expected = {item: "failed" if int(item.result) in killers else "done" for item in items(count)}
    assert deaths <= CHANCES * len(killers)
    assert set(ended) == set(expected)
    bad = {item.result for item in ended if ended[item] != expected[item]}
    assert not bad


@pytest.mark.parametrize("chances", [1, 2, 5])
def test_one_that_kills_does_so_no_more_often_than_it_may(chances):
    (killer,) = items(1)
    handout = Handout([killer], chances)
    for number in range(chances):
        assert given_to(handout, [number]) == [(number, "0")]
        assert handout.lost(number, killer) == (number < chances - 1)
    assert handout.ended
