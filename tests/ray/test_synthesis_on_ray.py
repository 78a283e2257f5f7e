"""Any number of workers makes the samples that one process makes; what was made is not made again."""

from dataclasses import replace

import pytest
import torch

from exdd_ray.errors import UserError
from exdd_ray.on_ray.backend import ray_stages
from exdd_ray.on_ray.synthesis import RayChunks
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.job import CHUNK
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import synthesize
from exdd_ray.weights.miniature.networks import (
    Parts,
    make_autoencoder,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    save_model,
)


@pytest.fixture(scope="module")
def inpaint(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    folder = tmp_path_factory.mktemp("model") / "random"
    save_model(Parts(tokenizer, make_text_encoder(tokenizer), make_autoencoder(), make_unet()), folder)
    return InpaintConfig(
        model=str(folder), prompts=("scratch", "hole"), count=2 * CHUNK, steps=2, size=(32, 32), filters=None
    )


def test_an_image_that_cannot_be_read_is_replaced_on_ray(catalog, tmp_path):
    import pyarrow as pa

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    column = catalog.column_names.index("image")
    paths = [str(broken) if i % 7 == 0 else path for i, path in enumerate(catalog["image"].to_pylist())]
    changed = catalog.set_column(column, "image", pa.array(paths))
    found = synthesize(
        PerRegionConfig(count=2 * CHUNK), changed, changed.slice(0, 0), 0, Store(tmp_path / "s"), run=RayChunks()
    )
    assert len(found.samples) == 2 * CHUNK
    assert sum(found.skipped.values()) > 0
    assert all("broken.png" in reason for reason in found.skipped)


@pytest.mark.slow
def test_what_a_worker_cannot_make_is_raised_after_the_rest_is_made(inpaint, catalog, tmp_path):
    good, bad = plan_chunks(inpaint, catalog, catalog.slice(0, 0), 0)
    bad = replace(bad, config=inpaint.model_copy(update={"model": str(tmp_path / "none")}))
    store, steps = Store(tmp_path / "store"), []
    with pytest.raises(UserError, match="a worker cannot paint: .*no such folder"):
        RayChunks(1)(store, [bad, good], steps.append)
    assert sum(steps) == 2 * CHUNK
    assert store.peek(good.recipe.key) is not None
    assert store.peek(bad.recipe.key) is None


def test_the_device_is_the_clusters_and_gpus_that_it_lacks_are_refused(inpaint, catalog, tmp_path):
    assert ray_stages().device == "cpu"
    run = inpaint.run.model_copy(update={"device": "cuda", "gpus": 0.5})
    jobs = plan_chunks(inpaint.model_copy(update={"run": run}), catalog, catalog.slice(0, 0), 0)
    with pytest.raises(UserError, match=r"needs 0\.5 GPUs \(synthesizer\.run\.gpus\), and no node .* more than 0"):
        RayChunks()(Store(tmp_path), jobs, print)
