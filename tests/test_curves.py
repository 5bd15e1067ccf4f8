"""The picture of a training run: a finished one, one in progress, an empty one."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from test_prepare import run

pytest.importorskip("matplotlib")

from hyperasr.train import curves


def report(step: int, **changes) -> dict:
    entry = {"step": step, "loss": 3.0 / step, "attention_loss": 0.0, "learning_rate": 1e-3}
    return entry | changes


def evaluation(step: int, wer: float, **changes) -> dict:
    return {"step": step, "wer": wer, "by_source": {"books": wer, "phone": 2 * wer}} | changes


def write(folder: Path, *entries: dict, end: str = "") -> Path:
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "metrics.jsonl").write_text(lines + end)
    return folder


def texts(path: Path) -> list[str]:
    return [
        "".join(node.itertext()) for node in ElementTree.parse(path).iter() if "text" in node.tag
    ]


WHOLE = [
    *(report(step, attention_loss=2.0) for step in range(20, 2001, 20)),
    *(evaluation(step, 400 / step) for step in (1000, 2000)),
    evaluation(2000, 0.15, averaged=3),
]


def test_a_run_is_drawn_with_all_that_it_reported(tmp_path):
    result = run("curves", write(tmp_path, *WHOLE))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path / 'curves.svg'}: 2000 steps\n"
    found = " | ".join(texts(tmp_path / "curves.svg"))
    for expected in ("learning rate", "attention, now 2.000", "books, now 20.0 %", "phone, now"):
        assert expected in found
    assert "all, best 15.0 % at step 2,000" in found
    assert "mean of the 3 best, 15.0 %" in found


def test_the_same_run_gives_the_same_picture(tmp_path):
    images = [curves.draw(WHOLE, "a run", "svg") for _ in range(2)]
    assert images[0] == images[1]
    assert curves.draw(WHOLE, "a run", "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([report(1)], id="one report"),
        pytest.param([report(1, loss=None)], id="no number"),
        pytest.param([evaluation(0, 0.5)], id="a checkpoint to go on from, evaluated first"),
        pytest.param([report(20), evaluation(20, 1.0, by_source={})], id="without sources"),
        pytest.param([report(20), report(40, loss=None), report(60)], id="a gap"),
    ],
)
def test_a_run_in_progress_is_drawn_as_far_as_it_is(tmp_path, entries):
    result = run("curves", write(tmp_path, *entries), "-o", tmp_path / "now.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "now.png").read_bytes().startswith(b"\x89PNG")


def test_a_last_line_that_is_half_written_is_left_out(tmp_path):
    write(tmp_path, report(20), report(40), end='{"step": 60, "loss": 0.')
    assert run("curves", tmp_path).stdout == f"{tmp_path / 'curves.svg'}: 40 steps\n"


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\n",
        b'{"step": true, "loss": 1}\n',
        b'{"step": 1e26, "loss": 1}\n',
        b'{"step": 100000000000000000000, "loss": 1}\n',
        b'{"step": 60, "loss": "abc"}\n',
        b'{"step": 60, "wer": null}\n',
        b'{"step": 60, "wer": 1.0, "by_source": 5}\n',
        b'{"step": 60, "wer": 1.0, "by_source": {"a": null}}\n',
        b"[60]\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_line_is_left_out(tmp_path, line):
    whole = (write(tmp_path, report(20), report(40)) / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(line + whole)
    assert run("curves", tmp_path).stdout == f"{tmp_path / 'curves.svg'}: 40 steps\n"


def test_a_name_with_dollars_is_no_formula(tmp_path):
    folder = tmp_path / "$x_{$ $5 and $6"
    folder.mkdir()
    write(folder, report(20), evaluation(20, 1.0, by_source={"$y_{$": 0.5, "b": 1.0}))
    assert run("curves", folder).exit_code == 0
    found = " | ".join(texts(folder / "curves.svg"))
    assert "$x_{$ $5 and $6" in found
    assert "$y_{$, now 50.0 %" in found


@pytest.mark.parametrize("end", [None, "", '{"step": 20, "lo'])
def test_a_run_without_a_report_has_nothing_to_draw(tmp_path, end):
    if end is not None:
        write(tmp_path, end=end)
    result = run("curves", tmp_path)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith(f"hyperasr: {tmp_path}: nothing to draw yet")
    assert not (tmp_path / "curves.svg").exists()


def test_wrong_usage_is_told(tmp_path, monkeypatch):
    write(tmp_path, *WHOLE)
    assert run("curves", tmp_path / "gone").exit_code == 2
    assert run("curves", tmp_path, "-o", tmp_path / "a.gif").exit_code == 2
    monkeypatch.setattr("hyperasr.cli.options.find_spec", lambda name: None)
    result = run("curves", tmp_path)
    assert result.exit_code == 2
    assert "hyperasr[bench]" in result.stderr


def test_the_line_through_the_losses_is_the_median_around_each():
    values = curves.np.array([1.0, 3.0, curves.np.nan, 5.0] * 50)
    smooth = curves._smooth(values)
    assert smooth[100] == curves.np.nanmedian(values[98:103])
    assert curves._smooth(values[:2]).tolist() == [1.0, 3.0]
