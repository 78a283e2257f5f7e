import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contact_sheet_inputs import DUPLICATE, LEAKAGE, PROMPTS, make_sets
from PIL import Image
from tracking_inputs import KEY, of_kind, summary

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.report.contact_sheet import SynthesisSet
from exdd_ray.report.samples import read_sample
from exdd_ray.tracking import synthesis as tracking
from exdd_ray.tracking.synthesis import COLUMNS, log_synthesis, summary_of
from exdd_ray.tracking.wandb_runs import tracking_mode


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's own settings, and nothing in the user's home."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[SynthesisSet]:
    return make_sets(tmp_path_factory.mktemp("synthesis"))


def logged(project: str, name: str, sets: list[SynthesisSet], folder: Path) -> tuple[str, ...]:
    """Logs, and waits until wandb's own process has written all of it."""
    import wandb

    runs = log_synthesis(project, name, sets, folder)
    wandb.teardown()
    return runs


def one(run: str, kind: str) -> Any:
    (found,) = of_kind(run, kind)
    return found


def files_of_table(run: str) -> dict[str, Path]:
    return {entry.path: Path(entry.local_path) for entry in one(run, "artifact").manifest.contents}


def test_offline_run_holds_the_table_with_its_images(
    sets: list[SynthesisSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = logged("defects", "first try", sets, tmp_path)
    assert capsys.readouterr().err.count("\n") == 1
    assert len(runs) == 2
    for run, entry in zip(runs, sets, strict=True):
        files = files_of_table(run)
        assert all(path.is_relative_to(tmp_path / "wandb") for path in files.values())
        table = json.loads(files["samples.table.json"].read_text())
        assert table["columns"] == list(COLUMNS)
        assert len(table["data"]) == len(entry.synthesis.samples)
        for row, made in zip(table["data"], entry.synthesis.samples, strict=True):
            assert row[:3] == [made.row.id, made.prompt, str(made.seed)]
            background, result, mask, _ = read_sample(made)
            shown = [np.asarray(Image.open(files[image["path"]])) for image in row[3:]]
            for found, true in zip(shown, (background, background, result), strict=True):
                np.testing.assert_array_equal(found, true)
            overlay = files[row[4]["masks"]["defect"]["path"]]
            np.testing.assert_array_equal(np.asarray(Image.open(overlay)) > 0, mask)
        in_run = json.loads(next(Path(run).glob("files/media/table/*.json")).read_text())
        assert [row[:3] for row in in_run["data"]] == [row[:3] for row in table["data"]]


def test_run_says_what_it_is(sets: list[SynthesisSet], tmp_path: Path) -> None:
    (run,) = logged("defects", "first try", [sets[1]], tmp_path)
    about = one(run, "run")
    assert (about.project, about.run_group, about.job_type) == ("defects", "first try", "synthesis")
    assert sorted(about.tags) == ["ceramic", "procedural"]
    assert LEAKAGE in about.notes
    config = {update.key: json.loads(update.value_json) for update in about.config.update}
    assert config["synthesizer"] == sets[1].config.model_dump(mode="json")
    assert (config["seed"], config["category"]) == (3, "ceramic")
    found = summary(run)
    assert (found["asked"], found["kept"], found["dropped"], found["shown"]) == (10, 7, 3, 7)
    assert (found[f"kept/{PROMPTS[0]}"], found[f"dropped/{DUPLICATE}"]) == (4, 1)


def test_only_the_first_samples_of_each_prompt_are_logged(
    sets: list[SynthesisSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "MAX_EACH", 2)
    (run,) = logged("defects", "first try", [sets[1]], tmp_path)
    table = json.loads(files_of_table(run)["samples.table.json"].read_text())
    samples = sets[1].synthesis.samples
    assert [row[0] for row in table["data"]] == [samples[i].row.id for i in (0, 1, 4, 5)]
    assert (summary(run)["kept"], summary(run)["shown"]) == (7, 4)


def test_summary_holds_quality_and_pace(sets: list[SynthesisSet]) -> None:
    found, quality = summary_of(sets[0]), sets[0].quality
    assert quality is not None
    assert found["quality/KID-surface_resnet18"] == quality.figures[0].value
    assert found["images_per_second"] == 8


def test_key_is_nowhere_in_the_files(
    sets: list[SynthesisSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    logged("defects", "first try", [sets[1]], tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in "".join(capfd.readouterr())


def test_entity_comes_from_the_environment(
    sets: list[SynthesisSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_ENTITY", "somebody")
    (run,) = logged("defects", "first try", [sets[1]], tmp_path)
    assert one(run, "run").entity == "somebody"


def test_mode_is_the_environments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert tracking_mode() == "offline"
    assert "no WANDB_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert tracking_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracking_mode() == "offline"
    assert capsys.readouterr().err == ""


def test_what_cannot_work_is_said(sets: list[SynthesisSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Invalid project name"):
        log_synthesis("a/b", "first try", sets, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(ConfigError, match="WANDB_MODE=online needs WANDB_API_KEY"):
        log_synthesis("defects", "first try", sets, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(ConfigError, match="onlin is not online, offline or disabled"):
        log_synthesis("defects", "first try", sets, tmp_path)


def test_disabled_writes_nothing(sets: list[SynthesisSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert log_synthesis("defects", "first try", sets, tmp_path / "runs") == ()
    assert not (tmp_path / "runs").exists()


def test_large_images_are_made_smaller_with_their_masks(sets: list[SynthesisSet], tmp_path: Path) -> None:
    made = sets[0].synthesis.samples[0]
    image, mask = Image.open(made.row.image), Image.open(str(made.row.mask))
    for name, picture in (("image.png", image), ("mask.png", mask)):
        picture.resize((800, 640), Image.Resampling.NEAREST).save(tmp_path / name)
    row = replace(made.row, image=str(tmp_path / "image.png"), mask=str(tmp_path / "mask.png"))
    large = replace(sets[0].synthesis, samples=(replace(made, row=row), *sets[0].synthesis.samples[1:]))
    (run,) = logged("defects", "first try", [replace(sets[0], synthesis=large)], tmp_path)
    files = files_of_table(run)
    first = json.loads(files["samples.table.json"].read_text())["data"][0]
    overlay = np.asarray(Image.open(files[first[4]["masks"]["defect"]["path"]]))
    assert [Image.open(files[cell["path"]]).size for cell in first[3:]] == [(512, 410)] * 3
    assert set(np.unique(overlay)) == {0, 1}
    assert (overlay > 0).mean() == pytest.approx((np.asarray(mask) > 0).mean(), abs=0.01)
