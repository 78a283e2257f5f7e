"""CONTRIBUTING.md, done as it says in a copy of the project: nothing but its files is needed, and its commands work."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checklists import read_checklists

ROOT = Path(__file__).parents[2]
CHECKLISTS = read_checklists((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
MOST_FILES = {"A dataset": 2, "A synthesizer": 2, "A detector": 2, "A score": 2, "A metric": 1, "A sweep": 2}
COPIED = ("exdd_ray", "configs", "sweeps", "tests", "pyproject.toml")
PROGRAM = re.compile(r"\buv run (exdd|pytest|python)\b")
PROGRAMS = {
    "exdd": f"{sys.executable} -m exdd_ray.cli.main",
    "pytest": f"{sys.executable} -m pytest -m '' -n0 -p no:cacheprovider --override-ini addopts=",
    "python": sys.executable,
}


def test_every_task_has_a_checklist():
    assert list(CHECKLISTS) == list(MOST_FILES)
    assert all(one.commands and any(command.shown for command in one.commands) for one in CHECKLISTS.values())


@pytest.mark.parametrize("task", CHECKLISTS)
def test_a_task_touches_few_files(task):
    assert len(CHECKLISTS[task].touched) <= MOST_FILES[task]


@pytest.mark.slow
@pytest.mark.parametrize("task", CHECKLISTS)
def test_a_checklist_is_all_that_is_needed(task, copy):
    checklist = CHECKLISTS[task]
    checklist.write(copy)
    code = [path for path in checklist.touched if path.endswith(".py")]
    check([sys.executable, "-m", "ruff", "check", *code], copy)
    check([sys.executable, "-m", "ruff", "format", "--check", *code], copy)
    for command in checklist.commands:
        said = check(["bash", "-euc", PROGRAM.sub(lambda match: PROGRAMS[match[1]], command.line)], copy)
        missing = [line for line in command.shown if line not in said]
        assert not missing, f"{command.line}: prints no {missing[0]!r} but {said}"


@pytest.fixture
def copy(tmp_path):
    """A copy of the project."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            # with what is compiled, but for files that are being written
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def check(command, folder):
    """The output of a command that succeeds, with one blank between words."""
    place = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=place, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return " ".join(f"{done.stdout} {done.stderr}".split())
