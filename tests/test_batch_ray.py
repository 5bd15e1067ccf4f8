"""The engine of many machines: on real nodes where there can be some, and its parts by themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ALONE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""No network but one of its own, and no process outlives it."""


@pytest.fixture(scope="module")
def alone():
    """What runs a command apart from everything else; skips where nothing does."""
    pytest.importorskip("ray", reason="needs Ray: pip install ray")
    command = ALONE if os.getuid() == 0 else [*ALONE, "--user", "--map-root-user"]
    if not shutil.which("unshare"):
        pytest.skip("needs the program unshare")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"may not run anything apart: {tried.stderr.strip()}")
    return command


def test_on_real_nodes(alone):
    """The tests in on_a_cluster.py."""
    tests = Path(__file__).with_name("on_a_cluster.py")
    pytest_ = [sys.executable, "-m", "pytest", str(tests), "-p", "no:cacheprovider"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*alone, *pytest_], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
