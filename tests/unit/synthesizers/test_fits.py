"""What synthesizers train first: each once, for whichever chunks and parts need it; one that fails does so alone."""

from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from synthesizer_inputs import make_images, quick
from trained_synthesizer import SHADES, ShadedConfig

from exdd_ray.config import systems
from exdd_ray.data.masks import read_pair
from exdd_ray.device import CUDA
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.synthesizers.chunk import in_groups
from exdd_ray.synthesizers.device import on_device
from exdd_ray.synthesizers.fits import Fit, lacking_fits, train_all, train_here
from exdd_ray.synthesizers.leaves import Leaf
from exdd_ray.synthesizers.plan import plan_chunks, plan_parts
from exdd_ray.synthesizers.synthesize import run_on_threads, synthesize
from exdd_ray.synthesizers.synthesizer import Resources
from exdd_ray.synthesizers.table import any_synthesizer, synthesizers


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def shaded(monkeypatch):
    """Has the table know the synthesizer that trains."""
    entry = EntryPoint("shaded", "trained_synthesizer:SYNTHESIZER", "exdd_ray.synthesizers")
    monkeypatch.setattr(systems, "entry_points", lambda group: [entry] if group == entry.group else [])
    for table in (synthesizers, any_synthesizer):
        table.cache_clear()
    yield ShadedConfig(count=24, filters=None)
    for table in (synthesizers, any_synthesizer):
        table.cache_clear()


def test_each_prompt_is_made_with_what_was_trained_for_it(shaded, images, tmp_path):
    store = Store(tmp_path)
    made = synthesize(shaded, *images, 0, store)
    assert len(made.samples) == 24
    for sample in made.samples:
        image, mask = read_pair(sample.row)
        assert set(np.unique(image[mask])) == {SHADES[sample.prompt]}
    assert made.remark == ("dark: trained to 20", "bright: trained to 240")
    assert sum(key.startswith("shade-") for key in store.made) == 2


def test_what_is_trained_is_in_the_chunks_keys_and_known_before_anything_is(shaded, images, tmp_path):
    jobs = plan_chunks(shaded, *images, 0)
    assert {job.prompt: job.training for job in jobs} == {
        prompt: Recipe("shade", 1, {"prompt": prompt}) for prompt in SHADES
    }
    assert all(job.recipe.config["training"] == job.training.key for job in jobs)
    fits = lacking_fits(plan_parts(shaded, *images, 0), Store(tmp_path), "a run")
    assert [fit.name for fit in fits] == ["a run: dark", "a run: bright"]


def test_what_several_ask_for_is_trained_once(shaded, images, tmp_path):
    store = Store(tmp_path)
    parts = [(Leaf(part, shaded), plan_chunks(shaded, *images, seed)) for seed, part in enumerate(("one", "other"))]
    fits = lacking_fits(parts, store)
    assert len(fits) == 2
    train_all(fits, Resources(store, silent, run_on_threads), train_here)
    assert lacking_fits(parts, store) == []


def test_one_that_fails_is_named_and_the_others_are_kept(shaded, images, tmp_path, caplog):
    store, config = Store(tmp_path), shaded.model_copy(update={"prompts": ("dark", "none", "bright", "no other")})
    with pytest.raises(DataError, match="^none: no such shade$"):
        synthesize(config, *images, 0, store)
    assert [record.getMessage() for record in caplog.records] == ["no other: no such shade"]
    assert len(store.made) == 2
    left = lacking_fits(plan_parts(config, *images, 0), store)
    assert [fit.name for fit in left] == ["none", "no other"]


def test_progress_names_what_is_trained(shaded, images, tmp_path):
    labels = []

    def noted(label, total):
        labels.append(label)
        return silent(label, total)

    fits = lacking_fits(plan_parts(shaded, *images, 0), Store(tmp_path))
    assert train_here(fits, Store(tmp_path), noted) == []
    assert labels == ["dark: training", "bright: training"]


def test_chunks_of_different_trainings_are_not_made_together(images):
    config = quick("inpaint", count=40, run={"batch": 20})
    first, second = (Recipe("x", 1, {"n": number}) for number in range(2))
    jobs = [
        replace(job, training=first if job.prompt == "scratch" else second) for job in plan_chunks(config, *images, 0)
    ]
    assert [len(group) for group in in_groups(jobs)] == [2, 2]
    assert all(len({job.training.key for job in group}) == 1 for group in in_groups(jobs))


def test_several_processes_need_a_cluster(images, tmp_path):
    config = quick("lora", tuning={"training": {"workers": 2, "batch": 2}})
    (fit,) = lacking_fits(plan_parts(config, *images, 0), Store(tmp_path), "a run")
    (error,) = train_here([fit], Store(tmp_path), silent)
    assert isinstance(error, ConfigError)
    assert str(error) == "a run: training.workers=2 needs a Ray cluster: --ray"


def test_a_fine_tuning_is_on_the_device_of_the_cluster_unless_it_says_another():
    there = on_device(quick("lora"), CUDA)
    assert (there.run.device, there.tuning.training.device) == (CUDA, CUDA)
    own = on_device(quick("lora", tuning={"training": {"device": "cpu"}}), CUDA)
    assert (own.run.device, own.tuning.training.device) == (CUDA, "cpu")


def test_a_fit_that_the_store_has_is_not_trained_again(shaded, images, tmp_path):
    store = Store(tmp_path)
    fit = Fit("", plan_chunks(shaded, *images, 0)[0])
    fit.train(store)
    fit.train(store)
    assert store.made == [fit.recipe.key]
