"""Folders of results: a run never writes over another one, and the latest is found."""

import json
import re
from datetime import datetime

import pytest

from exdd_ray.cli.main import main
from exdd_ray.errors import UserError
from exdd_ray.runs import claim, earlier_folders, mark_latest, new_folder, require_free, write_whole


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_is_named_by_its_experiment_its_time_and_its_overrides(tmp_path):
    overrides = ["dataset.root=/data/line 2/", "store=/elsewhere", "defects=5", "prompts=[scratch, 'hole']"]
    before = datetime.now().replace(microsecond=0)
    folder = new_folder("folder", overrides)
    assert folder.parent == tmp_path / "runs/folder"
    stamp, _, rest = folder.name.partition("_dataset")
    assert before <= datetime.strptime(stamp, "%Y-%m-%d_%H-%M-%S") <= datetime.now()
    assert rest == ".root=line-2_defects=5_prompts=scratch-hole"
    assert re.fullmatch(r"[\w.=+-]+", folder.name)
    assert len(new_folder("folder", [f"k{i}=value" for i in range(90)]).name) < 200
    assert not (tmp_path / "runs").exists()


def test_results_are_written_beside_those_that_are_there(tmp_path):
    folders = [write_whole(tmp_path / "a/run", lambda into: (into / "x").write_text("1")) for _ in range(3)]
    assert [folder.name for folder in folders] == ["run", "run~2", "run~3"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["run", "run~2", "run~3"]
    assert [claim(tmp_path / "a/run").name, claim(tmp_path / "a/new").name] == ["run~4", "new"]


def test_what_fails_while_it_is_written_leaves_nothing(tmp_path):
    def write(into):
        (into / "half").write_text("")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="run: cannot write the results: No space left"):
        write_whole(tmp_path / "a/run", write)
    assert list((tmp_path / "a").iterdir()) == []


def test_an_empty_folder_is_written_into(tmp_path):
    (tmp_path / "mine").mkdir()
    require_free(tmp_path / "mine")
    assert write_whole(tmp_path / "mine", lambda into: (into / "x").touch()) == tmp_path / "mine"
    with pytest.raises(UserError, match="holds 'x', and nothing is overwritten"):
        require_free(tmp_path / "mine")


def test_the_latest_is_found_by_its_link_and_by_its_overrides(tmp_path):
    names = ["2026-01-01_00-00-00", "2026-01-02_00-00-00_a=1", "2026-01-03_00-00-00_a=1", "2026-01-04_00-00-00_a=12"]
    for name in names:
        (tmp_path / "runs/x" / name).mkdir(parents=True)
        mark_latest(tmp_path / "runs/x" / name)
    assert (tmp_path / "runs/x/latest").resolve().name == names[-1]
    assert [one.name for one in earlier_folders("x", ["a=1", "output=y"])] == [names[2], names[1]]
    assert [one.name for one in earlier_folders("x", [])] == names[:1]
    assert earlier_folders("y", []) == []


def test_a_folder_of_ones_own_naming_gets_no_link(tmp_path):
    mark_latest(claim(tmp_path / "mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("command", ["run demo", "synth demo", "sweep synth_count --here"])
@pytest.mark.parametrize(("places", "lost"), [((), "store=store"), (("store=/x", "output=y"), "output=y")])
def test_a_job_writes_nothing_into_its_copy_of_the_folder(command, places, lost, tmp_path, monkeypatch, capsys):
    job = {"runtime_env": {"working_dir": "gcs://_ray_pkg_0.zip"}, "metadata": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert main([*command.split(), *places]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"a copy of this folder that is lost at its end: {lost} " in said
    assert list(tmp_path.iterdir()) == []
