"""`exdd synth` on a folder with images that cannot be read, and one that is small."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from exdd_ray.cli.main import main
from exdd_ray.data.procedural.surfaces import make_surface


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six normal images that are whole, two that are not, one of 16 pixels; nothing is tested."""
    folder = tmp_path / "images" / "normal"
    folder.mkdir(parents=True)
    for i in range(7):
        side = 16 if i == 6 else 64
        surface = make_surface("wood", (64, 64), np.random.default_rng(i))[:side, :side]
        Image.fromarray(surface).save(folder / f"{i}.png")
    for name in ("broken-a.png", "broken-b.png"):
        (folder / name).write_bytes(b"no image")
    (tmp_path / "images" / "defect").mkdir()
    Image.fromarray(surface).save(tmp_path / "images" / "defect" / "d.png")
    return tmp_path / "images"


@pytest.fixture
def synth(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(recipe: str, *overrides: str) -> tuple[int, str, str]:
        given = (f"dataset={{name: folder, root: {root}, split: {{train_fraction: 0.999}}}}",)
        code = main(["synth", recipe, *given, "synthesizer.filters=null", "output=out", "--json", *overrides])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize("recipe", ["memseg", "draem", "cutpaste"])
def test_as_many_as_asked_for_are_made_from_what_can_be_read(synth, root, recipe):
    code, out, err = synth(recipe, "synthesizer.count=20", "max_unreadable=0.5")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["samples"] == 20
    assert f"note: 2 unreadable images left out; the first: {root / 'normal' / 'broken-a.png'}" in out
    samples = pq.read_table(next(Path("out").rglob("samples.parquet")))
    used = {Path(file).name for file in samples["background"].to_pylist()}
    assert used
    assert used <= {f"{i}.png" for i in range(7)}


def test_more_unreadable_images_than_tolerated_are_refused_and_one_is_named(synth, root):
    code, _, err = synth("memseg", "synthesizer.count=4")
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("exdd: ")]
    assert "2 of 10 images are unreadable, more than dataset.max_unreadable=0 tolerates" in line
    assert "broken-a.png" in line
