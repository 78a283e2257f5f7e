"""Seeds of a detector that is trained, side by side on a cluster that the command starts."""

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SMALL = """
name: small
synthesizer: {kind: per_region, count: 10}
dataset:
  split: {defects: 0}
  procedural:
    size: [64, 64]
    materials: [ceramic]
    kinds: [hole]
    normal_train: 10
    normal_test: 4
    defects_per_kind: 5
detector:
  kind: classifier
  features: {layers: [layer2], resize: [48, 48]}
  batchnorm: frozen
  epochs: 2
  training: {batch: 4, device: cpu}
evaluation: {bootstrap: 0}
seeds: [0, 1]
"""


def test_seeds_are_trained_side_by_side_on_ray(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    command = [sys.executable, "-m", "exdd_ray.cli.main", "run", "small.yaml", "--ray", "--at-once", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        assert f"small, seed {seed}: after" in done.stderr  # from its worker
    assert len(list((tmp_path / "store").glob("train-classifier/*/*"))) == 2
    scored = pq.read_table(tmp_path / "runs/small/latest/predictions.parquet").to_pylist()
    assert {row["seed"] for row in scored} == {0, 1}
    assert "at the F1-max threshold" in done.stdout
    assert "At a threshold" in (tmp_path / "runs/small/latest/report.html").read_text()
