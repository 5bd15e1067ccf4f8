"""What a run reads before it starts, as people write it: manifests, then settings.

Relative paths, blank lines, and every kind of broken line and impossible value.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperasr.errors import ConfigError, ManifestError
from hyperasr.manifest import Utterance, read_manifest
from hyperasr.train.config import TrainConfig, load_config, parse_setting
from hyperasr.train.schedule import learning_rate

# -- manifests ----------------------------------------------------------------------------

GOOD = '{"audio_filepath": "a.wav", "duration": 1}'


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "train.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def complaint(path: Path) -> str:
    """What is said about a manifest that cannot be used: it starts with the file's name."""
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_every_field_is_read(write):
    entry = {"audio_filepath": "clips/a.wav", "duration": 1.25, "text": "Grüß Gott"}
    entry |= {"speaker": "s1", "source": "radio", "language": "de"}
    path = write(json.dumps(entry, ensure_ascii=False))
    expected = Utterance(path.parent / "clips/a.wav", 1.25, "Grüß Gott", "s1", "radio")
    assert read_manifest(path) == [expected]


def test_what_is_not_needed_may_be_missing(write):
    path = write(GOOD)
    (utterance,) = read_manifest(path)
    assert utterance == Utterance(path.parent / "a.wav", 1.0, "", "", "")
    assert isinstance(utterance.duration, float)


def test_an_absolute_path_stays(write, tmp_path):
    entry = {"audio_filepath": str(tmp_path / "elsewhere" / "a.wav"), "duration": 2}
    (utterance,) = read_manifest(write(json.dumps(entry)))
    assert utterance.audio == tmp_path / "elsewhere" / "a.wav"


def test_a_relative_manifest_gives_paths_that_open_from_here(write, tmp_path, monkeypatch):
    write(GOOD)
    monkeypatch.chdir(tmp_path.parent)
    (utterance,) = read_manifest(Path(tmp_path.name) / "train.jsonl")
    assert utterance.audio == Path(tmp_path.name) / "a.wav"


def test_the_order_is_kept_and_blank_lines_are_skipped(write):
    lines = [json.dumps({"audio_filepath": name, "duration": 1}) for name in "cab"]
    path = write("\n".join(["", lines[0], "  \t", lines[1] + "\r", lines[2], "", ""]))
    assert [utterance.audio.name for utterance in read_manifest(path)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("audio_filepath: a.wav", "JSON"),
        (GOOD[:-1], "JSON"),
        (f"[{GOOD}]", "audio_filepath"),
        ("null", "audio_filepath"),
        ("{}", "audio_filepath"),
        ('{"duration": 1}', "audio_filepath"),
        ('{"audio_filepath": null, "duration": 1}', "audio_filepath"),
        ('{"audio_filepath": 7, "duration": 1}', "audio_filepath"),
        ('{"audio_filepath": ["a.wav"], "duration": 1}', "audio_filepath"),
        ('{"audio_filepath": "a.wav"}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": null}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": "1"}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": [1]}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": 0}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": -1.5}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": NaN}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": Infinity}', "duration"),
        ('{"audio_filepath": "a.wav", "duration": 1e999}', "duration"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_the_reason(write, line, reason):
    said = complaint(write(f"{GOOD}\n\n{line}\n{GOOD}\n"))
    assert said.startswith(", line 3: ")
    assert reason in said


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('{"audio_filepath": "a.wav", "duration": true}', id="duration true"),
        pytest.param(f'{{"audio_filepath": "a.wav", "duration": 1{"0" * 400}}}', id="400 digits"),
        pytest.param(f'{{"audio_filepath": "a.wav", "duration": 1{"0" * 5000}}}', id="5000 digits"),
        pytest.param('{"audio_filepath": "a.wav", "duration": 1, "text": ["a"]}', id="text a list"),
        pytest.param('{"audio_filepath": "a.wav", "duration": 1, "source": {}}', id="source {}"),
        pytest.param("[" * 100_000, id="nested 100000 deep"),
    ],
)
def test_a_line_of_the_wrong_types_is_refused(write, line):
    assert complaint(write(f"{GOOD}\n{line}\n")).startswith(", line 2: ")


def test_null_is_no_word(write):
    """As NeMo writes it for recordings without a transcript; "None" would be trained on."""
    entry = {"audio_filepath": "a.wav", "duration": 1, "text": None, "speaker": None}
    (utterance,) = read_manifest(write(json.dumps(entry)))
    assert (utterance.text, utterance.speaker) == ("", "")


@pytest.mark.parametrize("separator", ["\u2028", "\x85"], ids=ascii)
def test_only_a_newline_ends_a_line(write, separator):
    """`json.dumps(..., ensure_ascii=False)` writes these characters as they are."""
    text = f"one{separator}two"
    line = json.dumps({"audio_filepath": "a", "duration": 1, "text": text}, ensure_ascii=False)
    assert [utterance.text for utterance in read_manifest(write(line))] == [text]


def test_a_byte_order_mark_is_no_part_of_the_first_line(write):
    assert len(read_manifest(write(b"\xef\xbb\xbf" + GOOD.encode()))) == 1


@pytest.mark.parametrize("content", ["", "\n", " \n\t\n"], ids=repr)
def test_an_empty_manifest_is_refused(write, content):
    assert "no recordings" in complaint(write(content))


def test_a_file_that_cannot_be_read_is_refused(write, tmp_path):
    assert "cannot read" in complaint(tmp_path / "missing.jsonl")
    assert "cannot read" in complaint(tmp_path)
    assert "cannot read" in complaint(write(b'{"audio_filepath": "\xff\xfe"}'))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
fields = ["audio_filepath", "duration", "text", "speaker", "source"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(fields), json_values))
def test_any_object_gives_an_utterance_or_a_manifest_error(write, entry):
    try:
        (utterance,) = read_manifest(write(json.dumps(entry)))
    except ManifestError:
        return
    assert 0 < utterance.duration < float("inf")
    assert all(isinstance(x, str) for x in (utterance.text, utterance.speaker, utterance.source))


# -- settings -----------------------------------------------------------------------------


@pytest.fixture
def toml(tmp_path) -> Callable[[str], Path]:
    def write(content: str) -> Path:
        (tmp_path / "train.toml").write_text(content, encoding="utf-8")
        return tmp_path / "train.toml"

    return write


def test_paths_are_relative_to_the_file_and_overrides_win(toml, tmp_path):
    path = toml('manifests = ["a.jsonl", "/b.jsonl"]\ndev = "d/dev.jsonl"\nsteps = 7\nseed = 3')
    config = load_config(path, {"steps": 9, "learning_rate": 1})
    assert config.manifests == (str(tmp_path / "a.jsonl"), "/b.jsonl")
    assert config.dev == str(tmp_path / "d" / "dev.jsonl")
    assert (config.steps, config.seed) == (9, 3)
    assert config.learning_rate == 1.0
    assert isinstance(config.learning_rate, float), "a whole number is a number, too"
    assert config.batch_seconds == TrainConfig(manifests=("m",)).batch_seconds


def test_paths_among_the_overrides_are_relative_to_where_we_are(toml):
    path = toml('manifests = ["a.jsonl"]\ndev = ""')
    config = load_config(path, {"manifests": ["here.jsonl"]})
    assert (config.manifests, config.dev) == (("here.jsonl",), "")
    assert load_config(None, {"manifests": ("m",)}) == TrainConfig(manifests=("m",))


def test_settings_survive_their_json():
    config = TrainConfig(manifests=("m", "n"), speeds=(0.9, 1.0), dev="d")
    assert load_config(None, json.loads(config.to_json())) == config


def check_refusal(path: Path, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(path, {})


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("stepz = 5", "stepz"),
        ("steps = 5.0", "steps"),
        ('steps = "5"', "steps"),
        ("steps = true", "steps"),
        ("learning_rate = true", "learning_rate"),
        ('learning_rate = "fast"', "learning_rate"),
        ("model = 8", "model"),
        ("manifests = []", "manifest"),
        ("speeds = 1.0", "speeds"),
        *((f"{name} = 0", name) for name in ("steps", "batch_seconds", "length_step")),
        *((f"{name} = -1", name) for name in ("max_utterance", "learning_rate")),
        ("max_utterance = 300", "batch_seconds"),
        *((f"speeds = [{speeds}]", "speeds") for speeds in ("", "0.0", "1.0, nan")),
        ("middle_loss = 1.0", "middle_loss"),
        *((f"average_decay = {x}", "average_decay") for x in (1.0, -0.1)),
        *((f"background_share = {x}", "background_share") for x in (1.1, -0.1, "nan")),
    ],
)
def test_a_setting_that_cannot_be_is_named(toml, line, named):
    others = "" if line.startswith("manifests") else 'manifests = ["m"]\n'
    check_refusal(toml(others + line), named)


@pytest.mark.parametrize(
    "line",
    [
        "dev = 5",
        'manifests = "train.jsonl"',
        "manifests = 5",
        "manifests = [5]",
        'speeds = ["fast"]',
        "first_speakers = [84]",
    ],
)
def test_a_setting_of_another_type_is_named(toml, line):
    others = "" if line.startswith("manifests") else 'manifests = ["m"]\n'
    check_refusal(toml(others + line), line.split()[0])


@pytest.mark.parametrize(
    "line",
    [
        *(f"learning_rate = {x}" for x in ("nan", "inf")),
        "batch_seconds = inf",
        *(f"dropout = {x}" for x in (1.0, -0.1, "nan")),
        *(f"save_steps = {x}" for x in (0, -1)),
        "epoch_steps = -1",
        "weight_decay = -1.0",
        "max_grad_norm = 0.0",
        *(f"seed = {x}" for x in (-1, 10**11)),
        *(f"{axis}_masks = -1" for axis in ("time", "frequency")),
        *(f"time_share = {x}" for x in (-0.1, 1.5)),
    ],
)
def test_a_value_that_would_fail_later_is_named_at_once(toml, line):
    check_refusal(toml(f'manifests = ["m"]\n{line}'), line.split()[0])


def test_settings_that_cannot_be_read(toml, tmp_path):
    for path in (tmp_path / "missing.toml", tmp_path, toml("steps = ")):
        with pytest.raises(ConfigError, match=str(path)):
            load_config(path, {})
    with pytest.raises(ConfigError, match="manifest"):
        load_config(None, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=5", ("steps", 5)),
        (" dropout = 0.5 ", ("dropout", 0.5)),
        ("model=conformer-8m", ("model", "conformer-8m")),
        ('model="tiny"', ("model", "tiny")),
        ('manifests=["a=b.jsonl"]', ("manifests", ["a=b.jsonl"])),
        ("dev=", ("dev", "")),
    ],
)
def test_a_setting_on_the_command_line_is_spelled_as_in_toml(text, expected):
    assert parse_setting(text) == expected
    with pytest.raises(ConfigError, match="steps 5"):
        parse_setting("steps 5")


@given(st.integers(1, 200), st.integers(0, 60), st.integers(0, 60))
def test_the_learning_rate_rises_stays_and_falls_to_zero(steps, warmup, decay):
    config = TrainConfig(
        manifests=("m",), steps=steps, warmup_steps=warmup, decay_steps=decay, learning_rate=0.5
    )
    rates = [learning_rate(config, step) for step in range(steps + 1)]
    assert rates[-1] == 0.0
    assert all(0.0 < rate <= 0.5 for rate in rates[:-1])
    if warmup + decay <= steps:
        assert rates[:warmup] == pytest.approx([0.5 * (k + 1) / warmup for k in range(warmup)])
        assert all(rate == 0.5 for rate in rates[max(0, warmup - 1) : steps - decay + bool(decay)])
        assert rates[steps - decay :] == pytest.approx(
            [0.5 * k / max(1, decay) for k in range(decay, -1, -1)] if decay else [0.0]
        )
