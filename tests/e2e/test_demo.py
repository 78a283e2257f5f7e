"""The command that a newcomer types, and real images, in processes of their own."""

import json
import os
import subprocess
import sys

import pytest

SMALL = (
    "procedural.normal_train=8",
    "procedural.normal_test=4",
    "procedural.defects_per_kind=3",
    "split.defects=2",
    "procedural.materials=[wood, ceramic]",
    "features.resize=[96,96]",
    "synthesizer.count=10",
    "bootstrap=100",
)


def exdd(folder, *arguments, **environment):
    command = [sys.executable, "-m", "exdd_ray.cli.main", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_compares_three_detectors_and_writes_its_report(tmp_path):
    out = exdd(tmp_path, "run", *SMALL, "--json")
    trials = json.loads(out.splitlines()[-1])["trials"]
    assert list(trials) == ["single bank", "dual bank, real defects", "dual bank, real + synthetic defects"]
    assert all(0.5 < trial["image_auroc"] <= 1 for trial in trials.values())
    page = (tmp_path / "runs/demo/latest/report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "dual bank, real + synthetic defects" in page
    assert "0 artifacts made" in exdd(tmp_path, "run", *SMALL)


@pytest.mark.shared
def test_patchcore_tells_real_tiles_apart(tmp_path, shared_dir):
    root = tmp_path / "tiles"
    for part, kind, chosen in (  # spread over the series, which were taken at different exposures
        ("train/good", "Free", slice(0, None, 14)),
        ("test/good", "Free", slice(7, None, 28)),
        ("test/crack", "Crack", slice(0, None, 3)),
        ("test/break", "Break", slice(0, None, 5)),
    ):
        (root / part).mkdir(parents=True)
        for file in sorted((shared_dir / f"data/magnetic-tile/MT_{kind}/Imgs").glob("*.jpg"))[chosen]:
            (root / part / file.name).symlink_to(file)
    weights = shared_dir / "weights/resnet18_in1k_conv1-layer3.safetensors"
    (tmp_path / "tiles.yaml").write_text(
        f"name: tiles\ndataset: {{name: folder, root: {root}}}\n"
        f"detector: {{system: patchcore, features: {{backbone: resnet18, weights: {weights}, resize: [128, 128]}}}}\n"
    )
    metrics = json.loads(exdd(tmp_path, "run", "tiles.yaml", "--json").splitlines()[-1])
    assert metrics["image_auroc"] > 0.75
    assert metrics["pixel_auroc"] is None
