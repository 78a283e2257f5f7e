"""How an inpainting model is found, named and pinned."""

import shutil
from dataclasses import replace

import pytest
from inpaint_inputs import make_ceramic, make_random_model

from exdd_ray.config.bundled import find_config
from exdd_ray.errors import UserError
from exdd_ray.experiment.space import load_run
from exdd_ray.experiment.synth import pinned_trial
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.painting.model import load_pipeline, model_digest, pinned, revision_of
from exdd_ray.synthesizers.synthesize import synthesize

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ID = "exdd-ray/random"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_random_model(tmp_path_factory.mktemp("model") / "random")


@pytest.fixture
def on_the_hub(config, tmp_path, monkeypatch):
    """The model as a hub's, in the local cache of a machine without network."""
    cached = tmp_path / "hub" / "models--exdd-ray--random"
    shutil.copytree(config.model, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return config.model_copy(update={"model": HUB_ID, "count": 1, "prompts": ("scratch",)})


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json", "tokenizer_2/spiece.model"]
)
def test_a_folder_is_named_by_every_file_that_the_result_depends_on(name, config, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(config.model, folder)
    copied = config.model_copy(update={"model": str(folder)})
    assert model_digest(copied) == model_digest(config)
    (folder / name).parent.mkdir(exist_ok=True)
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert model_digest(copied) != model_digest(config)
    (folder / "README.md").write_text("read me")
    assert revision_of(copied) == model_digest(copied)


def test_threads_share_the_networks_and_nothing_that_has_a_state(config):
    one, other = load_pipeline(config), load_pipeline(config)
    assert one.unet is other.unet
    assert one.scheduler is not other.scheduler
    assert one.tokenizer is not other.tokenizer
    padded = one.tokenizer("scratch", padding="max_length").input_ids
    other.tokenizer("scratch")
    assert one.tokenizer("scratch", padding="max_length").input_ids == padded


def test_samples_of_a_hubs_model_name_its_commit(on_the_hub, tmp_path):
    (tmp_path / "normal").mkdir()
    normal = make_ceramic(tmp_path / "normal")
    (sample,) = synthesize(on_the_hub, normal, normal.slice(0, 0), 0, Store(tmp_path / "store")).samples
    assert (sample.model, sample.revision) == (HUB_ID, COMMIT)


def test_trials_of_a_hubs_model_name_its_commit(on_the_hub, config, tmp_path):
    demo = load_run(find_config("demo")).trials[0]
    for synthesizer, revision in ((on_the_hub, COMMIT), (config, None)):
        trial = replace(demo, config=demo.config.model_copy(update={"synthesizer": synthesizer}))
        found = pinned_trial(trial).config
        assert found.synthesizer.revision == revision
        assert found.model_copy(update={"synthesizer": synthesizer}) == trial.config
    assert pinned_trial(demo) is demo


def test_a_revision_that_is_not_in_the_cache_is_a_missing_model(on_the_hub):
    assert pinned(on_the_hub.model_copy(update={"revision": "f" * 40})).revision == "f" * 40
    with pytest.raises(UserError, match=f"no model {HUB_ID}: give synthesizer.model a local folder"):
        pinned(on_the_hub.model_copy(update={"revision": "v2"}))
