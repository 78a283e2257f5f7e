"""Fine-tunings side by side on Ray's workers: at the same time, to the bits of one process, each for itself."""

import json
import os
import re
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from synthesizer_inputs import make_images, quick

from exdd_ray.config.base import merge
from exdd_ray.errors import ConfigError, UserError
from exdd_ray.on_ray.fits import fine_tune_on_ray
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.fits import Fit, lacking_fits, train_here
from exdd_ray.synthesizers.painting.adapter import LORA
from exdd_ray.synthesizers.plan import plan_parts
from exdd_ray.training.stored import LOSSES

_PATIENCE = 120


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images"))


def fit_of(images, name: str, seed: int, **training: object) -> Fit:
    """A fine-tuning of the bundled miniature, of a few steps."""
    tuning = {"seed": seed, "training": merge({"batch": 2, "cpus": 0.5}, training)}
    config = quick("lora", count=1, tuning=merge({"epochs": 2, "keep_every": 1, "repeats": 2}, tuning))
    (fit,) = lacking_fits(plan_parts(config, *images, 0), Store(Path("/nowhere")), name)
    return fit


def files_of(store: Store, fit: Fit) -> dict[str, object]:
    """What was trained: losses, and the bytes of all tensors of all files; metadata are in any order."""
    folder = store.find(fit.recipe.key).folder
    found: dict[str, object] = {"losses": json.loads((folder / LOSSES).read_text())}
    for path in sorted(folder.rglob("*.safetensors")):
        name = str(path.relative_to(folder))
        found |= {f"{name} {key}": tensor.numpy().tobytes() for key, tensor in load_file(path).items()}
    return found


@pytest.mark.slow
def test_two_are_trained_at_the_same_time_to_the_bits_of_one_process(images, tmp_path):
    meeting = tmp_path / "meeting"
    meeting.mkdir()

    class Met(Fit):
        """Begins when another one has begun, too, and notes when that was and when it has ended."""

        def train(self, store, progress=silent):
            (meeting / f"{self.recipe.key}.here").touch()
            deadline = time.monotonic() + _PATIENCE
            while len(list(meeting.glob("*.here"))) < 2:
                assert time.monotonic() < deadline, "the other one is not trained at the same time"
                time.sleep(0.05)
            started = time.time()
            super().train(store, progress)
            (meeting / f"{self.recipe.key}.json").write_text(json.dumps([started, time.time()]))

    fits = [fit_of(images, f"run {seed}", seed) for seed in (1, 2)]
    here, there, steps = Store(tmp_path / "here"), Store(tmp_path / "there"), []

    @contextmanager
    def counted(label, total):
        steps.append((label, total))
        yield steps.append

    assert fine_tune_on_ray([Met(fit.name, fit.job) for fit in fits], there, counted) == []
    times = [json.loads((meeting / f"{fit.recipe.key}.json").read_text()) for fit in fits]
    assert max(started for started, _ in times) < min(ended for _, ended in times)
    assert steps == [("fine-tuning", 2), 0, 1, 1]
    assert train_here(fits, here, silent) == []
    for fit in fits:
        assert files_of(there, fit) == files_of(here, fit)
        assert {name.split()[0] for name in files_of(there, fit)} >= {f"epoch-000{epoch}/{LORA}" for epoch in (1, 2)}


@pytest.mark.slow
def test_one_whose_worker_is_lost_goes_on_and_one_that_fails_does_so_by_its_name(images, tmp_path):
    lost = tmp_path / "lost"

    class Dying(Fit):
        """Its first worker dies after three steps of four, when the checkpoint of the second is there."""

        def train(self, store, progress=silent):
            @contextmanager
            def deadly(label, total):
                done = 0

                def advance(steps):
                    nonlocal done
                    done += steps
                    if done == 3 and not lost.exists():
                        lost.write_text(str(sorted(path.name for path in store.root.glob("unfinished/*/step-*"))))
                        os._exit(1)

                yield advance

            super().train(store, deadly)

    good, bad = fit_of(images, "good", 1), fit_of(images, "bad", 2)
    job = bad.job
    burst = job.config.tuning.model_copy(update={"learning_rate": 1e30})
    bad = replace(bad, job=replace(job, config=job.config.model_copy(update={"tuning": burst})))
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    (error,) = fine_tune_on_ray([bad, Dying(good.name, good.job)], there, silent)
    assert isinstance(error, UserError)
    assert re.match(r"bad: a worker cannot train: (after )?step \d+: .*(is nan|finite)", str(error))
    assert "\n" not in str(error)
    assert there.find(bad.recipe.key) is None
    assert "step-00000002" in lost.read_text()
    train_here([good], here, silent)
    assert files_of(there, good) == files_of(here, good)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"cpus": 64}, r"run: training.cpus=64: no node of the Ray cluster has more than \d+"),
        ({"device": "cuda", "gpus": 0.5}, "run: a worker needs 0.5 GPUs .training.gpus., and no node of the Ray"),
    ],
)
def test_more_than_a_node_has_is_refused_instead_of_waited_for(images, tmp_path, training, message):
    (error,) = fine_tune_on_ray([fit_of(images, "run", 1, **training)], Store(tmp_path), silent)
    assert isinstance(error, ConfigError if "cpus" in training else UserError)
    with pytest.raises(UserError, match=message):
        raise error
