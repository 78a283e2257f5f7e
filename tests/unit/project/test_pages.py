"""What the README and the docs say to type: commands take every line, a sweep is a sweep, the code runs."""

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
from exdd_ray.experiment.load import parse_overrides
from exdd_ray.experiment.space import load_run, load_sweep, points_ahead
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.progress import silent

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted(ROOT.glob("docs/howto/*.md"))]
SMALL = {
    "size": [64, 64],
    "materials": ["ceramic"],
    "kinds": ["hole", "stain"],
    "normal_train": 8,
    "normal_test": 4,
    "defects_per_kind": 6,
}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = {page: _BLOCK.findall(page.read_text(encoding="utf-8")) for page in PAGES}
COMMANDS = [
    (page.name, line.partition("uv run exdd ")[2])
    for page, blocks in BLOCKS.items()
    for kind, text in blocks
    if not kind
    for line in text.replace("\\\n", " ").splitlines()
    if "uv run exdd " in line and "--help" not in line
]
QUOTED = re.findall(r"^### `(.*)`$", (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
NOT_HERE = ("FILE", "mine.yaml")


def test_the_commands_are_found():
    found = {line.split()[0] for page, line in COMMANDS if page == "README.md"}
    assert found == {"run", "config", "init", "data", "report", "compare", "synth", "sweep", "export", "score", "track"}
    assert len({page for page, _ in COMMANDS}) > 5


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_line_is_one_that_the_command_takes(page, line):
    arguments = build_parser().parse_args(shlex.split(line, comments=True))
    if hasattr(arguments, "overrides"):
        parse_overrides(arguments.overrides, SweepConfig if arguments.command == "sweep" else RunConfig)
    if arguments.command in ("run", "config", "synth") and "--list" not in line and arguments.config not in NOT_HERE:
        assert load_run(find_config(arguments.config or "demo"), arguments.overrides).trials


@pytest.mark.parametrize(
    ("page", "settings"), [("README.md", {"count": 0, "rate": 0.01}), ("sweep.md", {"rate": 0.01, "smoothing": 3})]
)
def test_a_sweep_is_one(page, settings, tmp_path):
    ((_, text),) = (block for path in PAGES if path.name == page for block in BLOCKS[path] if block[0] == "yaml")
    (tmp_path / "sweep.yaml").write_text(text)
    loaded = load_sweep(tmp_path / "sweep.yaml")
    assert points_ahead(loaded)[0].settings == settings


@pytest.mark.parametrize("page", [path for path in PAGES if any(kind == "python" for kind, _ in BLOCKS[path])])
def test_the_code_runs(page, images, monkeypatch):
    monkeypatch.chdir(images)
    names: dict[str, object] = {}
    for kind, text in BLOCKS[page]:
        if kind == "python":
            exec(compile(text, page.name, "exec"), names)
    if "run" in names:
        assert read_results("runs/parts/latest").table.num_rows == 4


TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_files_of_the_package_that_are_named_exist(page):
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)(?::[a-z_]+)?`", page.read_text(encoding="utf-8")))
    made = set(re.findall(r"^```\w+ (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    places = (ROOT, ROOT / "exdd_ray", ROOT / "exdd_ray/experiment")
    assert not [name for name in sorted(named - made) if not any((place / name).is_file() for place in places)]


def test_troubleshooting_quotes_what_is_said():
    code = " ".join(
        re.sub(r'"\n\s*f?"', "", path.read_text(encoding="utf-8")) for path in ROOT.glob("exdd_ray/**/*.py")
    )
    assert len(QUOTED) > 15
    for line in QUOTED:
        assert all(part.strip() in code for part in line.split("…")), line


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with the images that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    first, second = (_made(folder / f"made{seed}", seed) for seed in (0, 1))
    shutil.copytree(first, folder / "path/to/images")
    shutil.copytree(second, folder / "monday")
    shutil.copytree(first / "test/hole", folder / "tuesday")
    return folder


def _made(store, seed):
    load_catalog(Dataset(name="procedural", procedural={**SMALL, "seed": seed}), open_store(str(store)), silent)
    (root,) = store.glob("procedural/*/*/images/ceramic")
    return root
