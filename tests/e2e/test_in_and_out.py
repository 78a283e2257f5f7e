"""In&Out's experiments and its sweep on a small dataset in KSDD2's layout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from dataset_trees import ksdd2

from exdd_ray.cli.main import main

ROOT = Path(__file__).parents[2]
SMALL = (
    "detector.features.backbone=surface_resnet18",
    "detector.features.layers=[layer1]",
    "detector.features.resize=[48,16]",
    "detector.epochs=1",
    "evaluation.bootstrap=20",
    "seeds=[0]",
)
PAINTER = "{kind: inpaint, steps: 2, size: [32, 32], prompts: [hole], filters: null}"


@pytest.mark.parametrize("setting", ["zero", "few", "full"])
def test_the_experiments_are_planned(setting, tmp_path, capsys):
    """Half of what the config says is painted by a model that is here."""
    painter = f"synthesizer.parts.0.synthesizer={PAINTER}"
    places = [f"dataset.root={ksdd2(tmp_path / 'ksdd2')}", f"store={tmp_path / 'store'}"]
    assert main(["run", f"in_and_out_ksdd2_{setting}", "--plan", painter, *places, *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "3 trials" in printed
    assert "12 " in next(line for line in printed.splitlines() if "chunks of 10 images" in line and "│" in line)


@pytest.mark.slow
def test_the_sweep_prints_ours_beside_the_published_figures(tmp_path):
    given = ["--settings", "zero", "full", "--counts", "2", "80", "--sources", "none", "per_region", "mixture"]
    places = [f"dataset.root={ksdd2(tmp_path / 'ksdd2')}", f"store={tmp_path / 'store'}", f"output={tmp_path / 'out'}"]
    line = [sys.executable, "sweeps/in_and_out.py", *given, "--painter", PAINTER, "--here", "--json", *places, *SMALL]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["baseline"], found["trials"], found["failed"]) == ("full none", 9, 0)
    figures: dict[str, list[float]] = {}
    for metric in ("image_ap", "image_precision", "image_recall"):
        for one in found["published"]:
            if one["metric"] == metric:
                figures.setdefault(one["point"], []).append(one["published"])
                assert 0 < one["measured"] <= 1
    assert figures == {
        "full none": [0.747, 0.826, 0.723],
        "zero per_region 80": [0.514, 0.733, 0.436],
        "zero mixture 80": [0.556, 0.530, 0.655],
        "full per_region 80": [0.744, 0.851, 0.691],
        "full mixture 80": [0.747, 0.764, 0.734],
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<em>55.60 ± 8.50</em>") == 1
    assert "Published, not measured here" in page
