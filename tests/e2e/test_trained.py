"""Detectors that are trained, by the command, in processes of their own."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SMALL = (
    "procedural.size=[64,64]",
    "procedural.materials=[ceramic]",
    "procedural.kinds=[hole]",
    "procedural.normal_train=10",
    "procedural.normal_test=4",
    "procedural.defects_per_kind=5",
    "split.defects=0",
    "bootstrap=0",
)
DETECTORS = {
    "classifier": """
        kind: classifier
        features: {layers: [layer2], resize: [48, 48]}
        batchnorm: frozen
        epochs: 2
        training: {batch: 4, device: cpu}
    """,
    "diffusionad": """
        kind: diffusionad
        scale: small
        reconstruction: {base: 8, multipliers: [1, 2]}
        segmentation: {base: 4, multipliers: [1, 2]}
        steps: 3
        held_out: 0.3
        training: {batch: 2, device: cpu}
    """,
}


@pytest.fixture
def exdd(tmp_path):
    """Runs `exdd run` on a made dataset with a detector: standard output and error."""

    def call(detector, *arguments):
        painted = "{kind: per_region, count: 10}" if detector == "classifier" else "null"
        (tmp_path / "small.yaml").write_text(f"name: small\nsynthesizer: {painted}\ndetector:{DETECTORS[detector]}\n")
        command = [sys.executable, "-m", "exdd_ray.cli.main", "run", "small.yaml", *SMALL, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return call


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_detector_is_trained_once_and_reported(exdd, tmp_path, detector):
    out, err = exdd(detector, "--json")
    metrics = json.loads(out.splitlines()[-1])
    assert 0 <= metrics["image_auroc"] <= 1
    assert 0 < metrics["image_recall"] <= 1
    assert "at the F1-max threshold chosen on the test images" in out
    assert "steps: validation" in err
    page = (tmp_path / "runs/small/latest/report.html").read_text()
    assert f"{detector}, preset best" in page
    assert "At a threshold" in page
    assert "0 artifacts made" in exdd(detector)[0]


def test_seeds_are_trained_side_by_side_on_ray_as_one_after_another(exdd, tmp_path):
    seeds = "seeds=[0,1]"
    scores = {}
    for store, how in (("alone", ()), ("shared", ("--ray", "--at-once", "2"))):
        err = exdd("classifier", seeds, f"store={store}", *how)[1]
        assert ("small, seed 1: after" in err) == bool(how)
        scores[store] = pq.read_table(tmp_path / "runs/small/latest/predictions.parquet").to_pylist()
        assert len(list((tmp_path / store).glob("train-classifier/*/*"))) == 2
    assert scores["alone"] == scores["shared"]
