"""`exdd config --list` and `exdd init`: what is bundled, and a copy of it that runs from any folder."""

from pathlib import Path

import pytest
import yaml

from exdd_ray.cli.main import main
from exdd_ray.config.bundled import bundled_names, configs_folder, find_config, first_sentence
from exdd_ray.experiment.load import read_raw
from exdd_ray.experiment.space import load_run

KINDS = ("experiments", "sweeps", "synthesizers", "datasets", "detectors")
BUNDLED = [(kind, name) for kind in KINDS for name in bundled_names(kind)]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_bundled_config_is_listed_with_what_it_says_of_itself(capsys):
    assert main(["config", "--list"]) == 0
    said = capsys.readouterr().out
    for kind, name in BUNDLED:
        assert any(line.split()[:1] == [name] for line in said.splitlines()), f"{kind}/{name}"
    assert "What `exdd run` runs" in said


@pytest.mark.parametrize(("kind", "name"), BUNDLED)
def test_a_config_begins_with_a_sentence(kind, name):
    assert len(first_sentence(configs_folder() / kind / f"{name}.yaml")) > 10


@pytest.mark.parametrize(("kind", "name"), BUNDLED)
def test_a_copy_says_what_the_bundled_one_says(kind, name, capsys):
    assert main(["init", name, f"{kind}.yaml"]) == 0
    found = next(configs_folder() / one / f"{name}.yaml" for one in KINDS if name in bundled_names(one))
    assert read_raw(Path(f"{kind}.yaml")) == read_raw(found)


def test_a_copy_is_edited_and_run(capsys):
    assert main(["init", "exdd_magnetic_tile"]) == 0
    assert capsys.readouterr().out == "exdd_magnetic_tile.yaml: exdd run exdd_magnetic_tile.yaml\n"
    path = Path("exdd_magnetic_tile.yaml")
    path.write_text(path.read_text() + "\nseeds: [7]\n" if "seeds:" not in path.read_text() else path.read_text())
    ours, theirs = load_run(path), load_run(find_config("exdd_magnetic_tile"))
    assert {one.name for one in ours.trials} == {one.name for one in theirs.trials}


def test_nothing_is_overwritten(capsys):
    Path("demo.yaml").write_text("mine")
    assert main(["init", "demo"]) == 2
    assert "demo.yaml is there already, and nothing is overwritten" in capsys.readouterr().err
    assert Path("demo.yaml").read_text() == "mine"


def test_mistakes_are_told_in_one_line(capsys):
    assert main(["init", "dem"]) == 2
    assert "did you mean 'demo'" in capsys.readouterr().err
    assert main(["init", "demo", "no/such/folder.yaml"]) == 2
    assert capsys.readouterr().err == "exdd: no/such/folder.yaml: cannot be written: No such file or directory\n"


def test_a_part_is_no_experiment(capsys):
    assert main(["init", "ksdd2"]) == 0
    assert "base: of an experiment" in capsys.readouterr().out
    assert yaml.safe_load(Path("ksdd2.yaml").read_text()) == {"dataset": {"name": "ksdd2"}}
