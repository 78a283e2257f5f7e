"""What the README says to type: every line is one that the commands take, the sweep in it is a sweep, the code runs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from exdd_ray import Dataset, open_store, read_results
from exdd_ray.cli.main import build_parser
from exdd_ray.config.bundled import find_config
from exdd_ray.experiment.config import RunConfig
from exdd_ray.experiment.dataset import load_catalog
from exdd_ray.experiment.load import load_run, parse_overrides
from exdd_ray.experiment.space import load_sweep, points_ahead
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.progress import silent

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md"]
SMALL = {
    "size": [64, 64],
    "materials": ["ceramic"],
    "kinds": ["hole", "stain"],
    "normal_train": 8,
    "normal_test": 4,
    "defects_per_kind": 6,
}
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line for kind, text in BLOCKS if not kind for line in text.replace("\\\n", " ").splitlines()]
COMMANDS = [line.partition("uv run exdd ")[2] for line in LINES if "uv run exdd " in line and "--help" not in line]


def test_the_commands_are_found():
    assert len(COMMANDS) > 12
    found = {line.split()[0] for line in COMMANDS}
    assert found == {"run", "config", "init", "data", "compare", "synth", "sweep", "track"}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_line_is_one_that_the_command_takes(line):
    arguments = build_parser().parse_args(shlex.split(line, comments=True))
    if hasattr(arguments, "overrides"):
        parse_overrides(arguments.overrides, SweepConfig if arguments.command == "sweep" else RunConfig)
    if arguments.command in ("run", "config", "synth") and "--list" not in line:
        assert load_run(find_config(arguments.config or "demo"), arguments.overrides).trials


def test_the_sweep_is_one(tmp_path):
    ((_, text),) = (block for block in BLOCKS if block[0] == "yaml")
    (tmp_path / "sweep.yaml").write_text(text)
    loaded = load_sweep(tmp_path / "sweep.yaml")
    assert points_ahead(loaded)[0].settings == {"count": 0, "rate": 0.01}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_runs(page, images, monkeypatch):
    monkeypatch.chdir(images)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(block, page.name, "exec"), names)
    assert read_results("runs/parts/latest").table.num_rows == 4


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with the images that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    made = Dataset(name="procedural", procedural=SMALL)
    load_catalog(made, open_store(str(folder / "store")), silent)
    (root,) = folder.glob("store/procedural/*/*/images/ceramic")
    shutil.copytree(root, folder / "path/to/images")
    shutil.copytree(root / "test/hole", folder / "tuesday")
    return folder
