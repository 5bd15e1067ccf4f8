"""`hyperasr lm` through its front door."""

import json
import subprocess
import sys

import pytest
from language_models import DATA, harbour, largest_difference, model
from typer.testing import CliRunner

from hyperasr.cli import lm
from hyperasr.cli import main as run_main
from hyperasr.errors import CheckpointError, ConfigError, LanguageModelError, OutputError, TextError
from hyperasr.lm.arpa import read_arpa, write_arpa

runner = CliRunner()


def run(*arguments):
    return runner.invoke(lm.app, [str(argument) for argument in arguments])


@pytest.fixture
def text(tmp_path):
    (tmp_path / "harbour.txt").write_bytes(harbour())
    return tmp_path / "harbour.txt"


@pytest.fixture
def arpas(tmp_path):
    """Two models and a text of their field."""
    write_arpa(model(0, 150), tmp_path / "base.arpa")
    write_arpa(model(150, 300), tmp_path / "field.arpa")
    (tmp_path / "dev.txt").write_bytes(harbour(300, 400))
    return tmp_path / "base.arpa", tmp_path / "field.arpa", tmp_path / "dev.txt"


@pytest.mark.parametrize("command", lm.app.registered_commands, ids=lambda c: c.callback.__name__)
def test_every_command_explains_itself_with_an_example(command):
    assert f"Example: hyperasr lm {command.callback.__name__} " in command.callback.__doc__


def test_build_writes_what_lmplz_would(text, tmp_path):
    result = run("build", text, "-o", tmp_path / "new" / "a.arpa.gz", "--prune", "0,0,1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "a.arpa.gz: 141 1-grams, 826 2-grams, 403 3-grams" in result.stderr
    theirs = read_arpa(DATA / "harbour.3.prune-0-0-1.arpa.gz")
    assert largest_difference(read_arpa(tmp_path / "new" / "a.arpa.gz"), theirs) < 1e-5


def test_build_writes_text_as_the_model_does_unless_told_otherwise(tmp_path):
    (tmp_path / "a.txt").write_text("Don\u2019t go in 1865!\n" * 3)
    said = run("build", tmp_path / "a.txt", "-o", tmp_path / "a.arpa").stderr
    assert "3 words cannot be written with these letters (1865!, ...)" in said
    assert "too small" in said
    assert set(read_arpa(tmp_path / "a.arpa").vocabulary[3:]) == {"don't", "go", "in"}
    run("build", tmp_path / "a.txt", "-o", tmp_path / "a.arpa", "--tokens", "none")
    assert set(read_arpa(tmp_path / "a.arpa").vocabulary[3:]) == {"Don\u2019t", "go", "in", "1865!"}


def test_build_spells_with_the_letters_of_another_model(tmp_path):
    (tmp_path / "model").mkdir()
    config = {"format": 1, "tokens": {"type": "characters", "alphabet": " ABC"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "a.txt").write_text("ab ba. cab\n")
    run("build", tmp_path / "a.txt", "-o", tmp_path / "a.arpa", "-m", tmp_path / "model")
    assert set(read_arpa(tmp_path / "a.arpa").vocabulary[3:]) == {"AB", "BA", "CAB"}


def test_quiet_says_nothing(text, arpas, tmp_path):
    base, field, dev = arpas
    for arguments in (
        ["build", text],
        ["mix", base, field, "--dev", dev],
        ["prune", base, "--threshold", "1e-5"],
    ):
        result = run(*arguments, "-o", tmp_path / "out.arpa", "-q")
        assert (result.exit_code, result.output) == (0, "")


def test_mix_finds_the_weight_on_a_text_of_the_field(arpas, tmp_path):
    base, field, dev = arpas
    result = run("mix", base, field, "-o", tmp_path / "mixed.arpa", "--dev", dev)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "weight 0." in result.stderr
    by_hand = run("mix", base, field, "-o", tmp_path / "by hand.arpa", "--weight", "0.5")
    assert by_hand.exit_code == 0
    assert read_arpa(tmp_path / "by hand.arpa").counts == read_arpa(tmp_path / "mixed.arpa").counts


def test_mix_refuses_models_of_different_case(arpas, tmp_path):
    base, field, _ = arpas
    field.write_text(
        field.read_text()
        .upper()
        .replace("<UNK>", "<unk>")
        .replace("S>", "s>")
        .replace("\\DATA", "\\data")
        .replace("NGRAM", "ngram")
        .replace("-GRAM", "-gram")
        .replace("S:", "s:")
        .replace("\\END", "\\end")
    )
    result = run("mix", base, field, "-o", tmp_path / "mixed.arpa", "--weight", "0.5")
    assert isinstance(result.exception, ConfigError)
    assert "field.arpa upper case: convert one, as with tr" in str(result.exception)


def test_prune_by_threshold_or_by_number(arpas, tmp_path):
    base, _, _ = arpas
    result = run("prune", base, "-o", tmp_path / "small.arpa", "--max-ngrams", 500)
    assert result.exit_code == 0
    assert sum(read_arpa(tmp_path / "small.arpa").counts) <= 500
    assert "in all" in result.stderr
    assert run("prune", base, "-o", base, "--threshold", "1e-3").exit_code == 0
    assert sum(read_arpa(base).counts) < sum(model(0, 150).counts)


def test_info_shows_the_model_and_what_it_makes_of_a_text(arpas):
    base, _, dev = arpas
    result = run("info", base, "--text", dev)
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert shown["order"] == "3"
    assert shown["letters"] == "lower"
    assert shown["bytes"] == f"{base.stat().st_size:,}"
    assert len(shown["sha256"]) == 64
    assert float(shown["perplexity"]) > 1
    assert shown["words"].endswith("in 100 sentences")
    assert "%" in shown["unknown"]


def test_info_writes_text_in_the_case_of_the_model(tmp_path):
    (tmp_path / "a.txt").write_text("HOME WE SAILED\nHOME\n")
    run("build", tmp_path / "a.txt", "-o", tmp_path / "a.arpa", "--tokens", "none", "-q")
    shown = run("info", tmp_path / "a.arpa", "--text", tmp_path / "a.txt").stdout
    assert "upper" in shown
    assert "0 (0.00%)" in shown


@pytest.fixture
def build_binary(monkeypatch, tmp_path):
    """Put a shell script in KenLM's place."""

    def install(script):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "build_binary").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / "build_binary").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    return install


def test_binarize_asks_kenlm(arpas, tmp_path, build_binary):
    build_binary('echo "$1 $2" > "$3"')
    result = run("binarize", arpas[0], "-o", tmp_path / "a.bin", "--structure", "probing")
    assert result.exit_code == 0
    assert (tmp_path / "a.bin").read_text() == f"probing {arpas[0]}\n"


def test_binarize_says_what_kenlm_refuses_and_leaves_nothing(arpas, tmp_path, build_binary):
    build_binary('echo half > "$3"; echo "too short" >&2; echo ERROR >&2; exit 1')
    result = run("binarize", arpas[0], "-o", tmp_path / "a.bin")
    assert isinstance(result.exception, LanguageModelError)
    assert "build_binary refuses it: too short" in str(result.exception)
    assert not list(tmp_path.glob("*.bin")) + list(tmp_path.glob(".hyperasr*"))


def test_binarize_without_kenlm_says_how_to_get_it(arpas, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing is here"))
    result = run("binarize", arpas[0], "-o", tmp_path / "a.bin")
    assert isinstance(result.exception, OutputError)
    assert "takes less memory. Build it from KenLM's source" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "{text}", "-o", "{text}"], "would be overwritten"),
        (["build", "{text}", "-o", "a.arpa", "--prune", "0,x"], "numbers with commas"),
        (["build", "{text}", "-o", "a.arpa", "--tokens", "some"], "model or none"),
        (["build", "{text}", "-o", "a.arpa", "--order", "7"], "equal to 6"),
        (["mix", "{text}", "{text}", "-o", "a.arpa"], "needs --dev"),
        (["mix", "{text}", "{text}", "-o", "a.arpa", "--weight", "much"], "auto, or a number"),
        (["prune", "{text}", "-o", "a.arpa"], "give one of the two"),
        (["binarize", "{text}", "-o", "a", "--structure", "list"], "trie or probing"),
    ],
)
def test_wrong_usage(text, arguments, message):
    result = run(*(argument.format(text=text) for argument in arguments))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert text.read_bytes() == harbour()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["build", "nowhere.txt", "-o", "a.arpa"], TextError),
        (["build", "{text}", "-o", "a.arpa", "-m", "nowhere"], CheckpointError),
        (["build", "{text}", "-o", "a.arpa", "--prune", "1,0"], ConfigError),
        (["info", "nowhere.arpa"], LanguageModelError),
        (["info", "{text}"], LanguageModelError),
    ],
)
def test_what_a_person_can_mend_is_told_in_one_line(text, arguments, error, monkeypatch, capsys):
    arguments = [argument.format(text=text) for argument in arguments]
    assert isinstance(run(*arguments).exception, error)
    monkeypatch.setattr(sys, "argv", ["hyperasr", "lm", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_main()
    codes = {LanguageModelError: 3, CheckpointError: 3, ConfigError: 2}
    assert stopped.value.code == codes.get(error, 1)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_building_does_not_wait_for_torch(text, tmp_path):
    code = (
        "import sys\nfrom hyperasr.cli import app\n"
        f"app(['lm', 'build', {str(text)!r}, '-o', {str(tmp_path / 'a.arpa')!r}], "
        "standalone_mode=False)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
