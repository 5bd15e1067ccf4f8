import os
import subprocess
import sys

import pytest
import torch

from hyperasr import runtime
from hyperasr.errors import ConfigError


def test_settling_sets_the_threads_and_lets_waiting_threads_sleep():
    code = (
        "import os; from hyperasr import runtime; runtime.settle(1); import torch; "
        "print(torch.get_num_threads(), os.environ['OMP_WAIT_POLICY'])"
    )
    clean = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean
    )
    assert done.stdout.split() == ["1", "PASSIVE"]


def test_what_the_user_set_is_left_alone(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    runtime.settle()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_auto_is_a_gpu_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.choose_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.choose_device("auto") == "cuda"


@pytest.mark.parametrize("name", ["warp", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(name):
    if name == "cuda:99" and torch.cuda.device_count() > 99:
        pytest.skip("this machine has it")
    with pytest.raises(ConfigError, match=f"device '{name}'"):
        runtime.choose_device(name)
