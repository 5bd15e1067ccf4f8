"""What the documentation says is what the program does."""

import re
from pathlib import Path

import pytest
import typer.main

from hyperasr.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("checkpoints/*/*.md")]


def commands(group, prefix=""):
    """Every command by its whole name, those of groups among them."""
    found = {}
    for name, command in group.commands.items():
        found[prefix + name] = command
        if hasattr(command, "commands"):
            found |= commands(command, f"{prefix}{name} ")
    return found


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_documented(name):
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", page, flags=re.M)
    (section,) = [text for text in section if text.startswith(f"hyperasr {name}\n")]
    documented = set(re.findall(r"`(--?[a-z_-]+)`", section))
    names = (o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts))
    options = {option for option in names if option.startswith("-")}
    assert documented == options - {"--help", "-h"}


def test_the_map_in_the_readme_names_every_module_and_no_other():
    named = set(re.findall(r"^\| `(hyperasr/[\w/]+\.py)` \|", README, flags=re.M))
    found = {str(p.relative_to(ROOT)) for p in (ROOT / "hyperasr").rglob("*.py")}
    assert named == {name for name in found if not name.endswith("__.py")}


def test_ci_runs_the_readmes_test_command():
    command = 'python -m pip install -e ".[dev]" && scripts/check'
    assert f"```\n{command}\n```" in README
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert script.splitlines()[-1] == command


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_every_package_is_installed():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (line,) = re.findall(r"^packages = \[(.*)\]", settings, flags=re.M)
    packages = set(re.findall(r'"([\w.]+)"', line)) - {"hyperasr.checkpoints"}
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "hyperasr").rglob("__init__.py")}
    assert packages == {".".join(folder.parts) for folder in folders}
