"""Threads that wait asleep, and their number: in fresh processes, since libraries read it when they are loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import tokenface
from tokenface import cli
from tokenface.cli.app import app
from tokenface.cli.console import SOME_FAILED, USAGE
from tokenface.core import threads

TORCH_LOADS_GNU = sys.platform == "linux"


def fresh(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter whose environment says nothing of threads but what is given."""
    own = {k: v for k, v in os.environ.items() if k not in (*threads.USERS_CHOICE, *threads.NUMBERS)}
    own |= {"PYTHONPATH": str(Path(tokenface.__file__).parents[1]), **variables}
    return subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)


def test_one_variable_of_the_users_leaves_all_as_they_are() -> None:
    told = fresh("import os, tokenface; print(os.environ.get('OMP_WAIT_POLICY'))", KMP_BLOCKTIME="200").stdout
    assert told.strip() == "None"


TOLD = "print(torch.get_num_threads(), cv2.getNumThreads(), numba.get_num_threads())"
COMMAND = "from tokenface import cli; cli.run(['version'{}])"
CONFIGURED = "from tokenface.core.threads import configured_threads; configured_threads(2)"
LIBRARIES = "import tokenface, cv2, numba, torch"


@pytest.fixture(scope="module")
def chosen() -> subprocess.CompletedProcess[str]:
    """Libraries that are there when the command line says one thread, and a configuration two."""
    one = COMMAND.format(", '--threads', '1'")
    return fresh("; ".join([LIBRARIES, one, TOLD, CONFIGURED, TOLD]), OMP_DISPLAY_ENV="VERBOSE")


@pytest.fixture(scope="module")
def unsaid() -> subprocess.CompletedProcess[str]:
    """A command line that says nothing, a user who has decided how threads wait, and a configuration of two threads."""
    variables = {"OMP_DISPLAY_ENV": "VERBOSE", "OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "3"}
    return fresh("; ".join([LIBRARIES, COMMAND.format(""), CONFIGURED, TOLD]), **variables)


@pytest.mark.skipif(not TORCH_LOADS_GNU, reason="asks GNU's OpenMP what it read")
@pytest.mark.parametrize(("told", "expected"), [("chosen", "PASSIVE"), ("unsaid", "ACTIVE")])
def test_torchs_openmp_sleeps_while_it_waits_unless_the_user_decides(told: str, expected: str, request) -> None:
    lines = request.getfixturevalue(told).stderr.splitlines()
    policies = [line.split("=")[1].strip() for line in lines if "OMP_WAIT_POLICY" in line]
    assert policies
    assert set(policies) == {f"'{expected}'"}


def test_threads_of_the_command_line_reach_libraries_that_are_loaded(chosen) -> None:
    assert chosen.stdout.splitlines()[-2] == "1 1 1"


def test_threads_of_the_command_line_reach_libraries_that_are_loaded_later() -> None:
    steps = [COMMAND.format(", '--threads', '1'"), LIBRARIES, TOLD]
    assert fresh("; ".join(steps)).stdout.splitlines()[-1] == "1 1 1"


def test_the_command_line_goes_before_a_configuration(chosen, unsaid) -> None:
    assert chosen.stdout.splitlines()[-1].split()[0] == "1"
    assert unsaid.stdout.splitlines()[-1].split()[0] == "2"


def commands(group: typer.Typer) -> list[list[str]]:
    """Words of every command below a group."""
    root = typer.main.get_command(group)

    def below(command, words: list[str]) -> list[list[str]]:
        inner = getattr(command, "commands", None)
        return [words] if inner is None else [w for name, one in inner.items() for w in below(one, [*words, name])]

    return below(root, [])


def test_the_other_options_keep_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    """An option added by a wrapper must not cost the command its own."""
    assert cli.run(["convert", "missing.npz", "--to", "openhead", "-f", "obj", "-o", "nowhere"]) == SOME_FAILED
    assert "missing.npz" in capsys.readouterr().err


@pytest.mark.parametrize("words", commands(app), ids=" ".join)
def test_every_command_has_threads(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*words, "--threads", "0"]) == USAGE  # the option is known, the number is not allowed
    assert "--threads" in capsys.readouterr().err
