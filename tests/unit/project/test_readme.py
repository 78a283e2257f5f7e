"""What the README says to type: every line is one that the commands take, the sweep in it is a sweep."""

import re
import shlex
from pathlib import Path

import pytest

from exdd_ray.cli.main import build_parser
from exdd_ray.config.bundled import find_config
from exdd_ray.experiment.config import RunConfig
from exdd_ray.experiment.load import load_run, parse_overrides
from exdd_ray.experiment.space import load_sweep, points_ahead
from exdd_ray.experiment.sweep_config import SweepConfig

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line for kind, text in BLOCKS if not kind for line in text.replace("\\\n", " ").splitlines()]
COMMANDS = [line.partition("uv run exdd ")[2] for line in LINES if "uv run exdd " in line and "--help" not in line]


def test_the_commands_are_found():
    assert len(COMMANDS) > 12
    assert {line.split()[0] for line in COMMANDS} == {"run", "config", "data", "compare", "synth", "sweep", "track"}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_line_is_one_that_the_command_takes(line):
    arguments = build_parser().parse_args(shlex.split(line, comments=True))
    if hasattr(arguments, "overrides"):
        parse_overrides(arguments.overrides, SweepConfig if arguments.command == "sweep" else RunConfig)
    if arguments.command in ("run", "config", "synth"):
        assert load_run(find_config(arguments.config or "demo"), arguments.overrides).trials


def test_the_sweep_is_one(tmp_path):
    ((_, text),) = (block for block in BLOCKS if block[0] == "yaml")
    (tmp_path / "sweep.yaml").write_text(text)
    loaded = load_sweep(tmp_path / "sweep.yaml")
    assert points_ahead(loaded)[0].settings == {"count": 0, "rate": 0.01}
