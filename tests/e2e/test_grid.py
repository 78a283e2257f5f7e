"""The grid's script over a few detectors and synthesizers, on a made dataset."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("dataset.procedural={size: [48, 48], normal_train: 6, normal_test: 4, defects_per_kind: 2}", "seeds=[0]")


@pytest.mark.slow
def test_the_script_prints_a_table_a_dataset(tmp_path):
    named = ["--detectors", "PaDiM", "ExDD", "--synthesizers", "CutPaste", "--counts", "0", "2"]
    places = [f"store={tmp_path / 'store'}", f"output={tmp_path / 'out'}"]
    datasets = ["--datasets", "procedural/ceramic", "procedural/wood"]
    line = [sys.executable, "sweeps/grid.py", *named, *datasets, "--here", "--json", *places, *SMALL]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["trials"], found["failed"]) == (10, 0)  # five combinations, two datasets
    for dataset in ("ceramic", "wood"):
        table = done.stdout.partition(f"procedural/{dataset}: image_auroc")[2].partition("└")[0]
        assert table.count("PaDiM") == 1
        assert table.count("ExDD") == 2
        assert table.count("(+") + table.count("(-") == 2  # the gain of CutPaste with no and with two real defects
    assert "published, not measured here: ExDD: 94.2 image AUROC" in done.stdout
    assert "published, not measured here: PatchCore" not in done.stdout, "it was not asked for"


def test_an_unknown_detector_is_told_in_a_line(tmp_path):
    line = [sys.executable, ROOT / "sweeps/grid.py", "--detectors", "Yolo", "--plan"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("exdd: the grid has no detector 'Yolo': PatchCore, PaDiM")
    assert len(done.stderr.splitlines()) == 1
