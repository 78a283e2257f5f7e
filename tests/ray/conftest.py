import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.features.config import FeaturesConfig


@pytest.fixture(scope="session", autouse=True)
def cluster():
    """One local cluster of two CPUs for all tests; a hang is an error after two minutes."""
    import ray

    from exdd_ray.on_ray.cluster import connect

    # `local`: not the one that another process of the tests has started
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    connect("local")
    ray.data.DataContext.get_current().execution_no_progress_timeout_s = 120
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def features(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file({key: value.contiguous() for key, value in resnet18().state_dict().items()}, path)
    return FeaturesConfig(backbone="resnet18", weights=path, resize=(64, 64))


@pytest.fixture(scope="session")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for i in range(70):
        path = folder / f"{i:02d}.png"
        Image.fromarray(make_surface("textile", (64, 64), np.random.default_rng(i))).save(path)
        rows.append(
            CatalogRow(id=path.name, dataset="d", category="c", split="train", label=0, defect="good", image=str(path))
        )
    return build_catalog(rows)
