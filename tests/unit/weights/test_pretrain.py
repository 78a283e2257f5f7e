import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open

from exdd_ray.errors import ConfigError
from exdd_ray.weights.surface_resnet18.batches import IGNORED, defect_batch, texture_batch
from exdd_ray.weights.surface_resnet18.model import Trunk, load_trunk, save_trunk
from exdd_ray.weights.surface_resnet18.pools import Pools, PoolSpec, build_pools, region_maps
from exdd_ray.weights.surface_resnet18.programs import FAMILIES, make_program, render
from exdd_ray.weights.surface_resnet18.train import Recipe, Trainer, schedule, trained_trunk

TINY = PoolSpec(programs=len(FAMILIES), per_program=2, defective=12, side=48)


@pytest.fixture(scope="module")
def pools() -> Pools:
    return build_pools(TINY)


@pytest.mark.parametrize("number", range(len(FAMILIES)))
def test_a_program_repeats_with_the_seed_and_varies_without(number):
    program = make_program(0, number)
    first, again, other = (render(program, (40, 53), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (40, 53, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_programs_differ():
    programs = [make_program(0, number) for number in range(50)]
    assert len(set(programs)) == 50
    assert make_program(0, 7) == programs[7]
    assert make_program(1, 7) != programs[7]


def test_pools_are_the_same_from_other_processes(pools):
    spread = build_pools(TINY, workers=2)
    assert np.array_equal(spread.textures, pools.textures)
    assert np.array_equal(spread.defective, pools.defective)
    assert np.array_equal(spread.labels, pools.labels)


def test_texture_cells_carry_the_program_that_fills_them():
    textures = np.stack([np.full((1, 48, 48, 3), 10 * number, np.uint8) for number in range(20)])
    pools = Pools(textures, np.zeros((1, 48, 48, 3), np.uint8), np.zeros((1, 48, 48), np.uint8))
    batch = texture_batch(pools, region_maps(8, 32, 0), 16, np.random.default_rng(0))
    assert batch.images.shape == (16, 3, 32, 32)
    for stride, labels in zip((8, 16), batch.labels, strict=True):
        assert labels.shape == (16, 32 // stride, 32 // stride)
        assert set(labels.unique().tolist()) <= {IGNORED, *range(20)}
    for image, labels in zip(batch.images, batch.labels[0], strict=True):
        tones = torch.nn.functional.avg_pool2d(image[None], 8)[0, 0]
        centre = image[0, 4::8, 4::8]
        pure = (tones - centre).abs() < 1e-5
        by_label = {int(label): set() for label in labels[pure & (labels != IGNORED)]}
        for label, tone in zip(labels[pure & (labels != IGNORED)], tones[pure & (labels != IGNORED)], strict=True):
            by_label[int(label)].add(round(float(tone), 3))
        assert all(len(seen) == 1 for seen in by_label.values())


def test_defect_cells_carry_the_defect_that_covers_them():
    labels = np.zeros((1, 32, 32), np.uint8)
    labels[0, :, :] = 3
    pools = Pools(np.zeros((1, 1, 32, 32, 3), np.uint8), np.zeros((1, 32, 32, 3), np.uint8), labels)
    batch = defect_batch(pools, 32, 2, np.random.default_rng(0))
    assert all((cells == 3).all() for cells in batch.labels)
    labels[0, :, :] = 0
    labels[0, 0, 0] = 3  # 1 pixel of 64: neither a defect cell nor a whole one
    cells = defect_batch(pools, 32, 2, np.random.default_rng(0)).labels[0]
    assert (cells == IGNORED).sum() == 2
    assert (cells == 0).sum() == 2 * 16 - 2


def test_training_lowers_both_losses_and_writes_loadable_weights(pools, tmp_path):
    trainer = Trainer(
        Pools(pools.textures[:3], pools.defective, pools.labels), Recipe(textures=8, defects=8, side=32, mosaics=20)
    )
    states = list(trainer.run(steps=24))
    first, last = states[:5], states[-5:]
    assert np.mean([s.texture_loss for s in last]) < 0.95 * np.mean([s.texture_loss for s in first])
    assert np.mean([s.defect_loss for s in last]) < 0.9 * np.mean([s.defect_loss for s in first])
    path = tmp_path / "weights.safetensors"
    save_trunk(trained_trunk(trainer), path, {"steps": "24"})
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]
    assert path.stat().st_size < 8e6
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mine, loaded in zip(trainer.trunk(images), load_trunk(path)(images), strict=True):
            torch.testing.assert_close(loaded, mine, rtol=0.05, atol=0.05)


def test_weights_have_the_names_of_torchvision(tmp_path):
    import torchvision

    save_trunk(Trunk(), tmp_path / "weights.safetensors", {"arch": "resnet18"})
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        names = set(file.keys())
        assert file.metadata() == {"arch": "resnet18"}
        assert file.get_tensor("conv1.weight").dtype == torch.float16
    resnet = torchvision.models.resnet18(weights=None).state_dict()
    assert names == {name for name in resnet if not name.startswith(("layer4.", "fc."))}


def test_training_repeats_with_its_seed(pools):
    runs = [
        [s.texture_loss for s in Trainer(pools, Recipe(textures=4, defects=4, side=32, mosaics=20)).run(steps=3)]
        for _ in "ab"
    ]
    assert runs[0] == runs[1]


def test_the_rate_warms_up_and_falls():
    rates = [schedule(used) for used in np.linspace(0, 1, 101)]
    assert int(np.argmax(rates)) == 5
    assert rates[0] < 0.1
    assert rates[-1] < 0.01
    assert all(before >= after for before, after in itertools.pairwise(rates[5:]))


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (Recipe(textures=0, defects=0), "texture or defect"),
        (Recipe(side=40), "multiple of 16"),
        (Recipe(side=64), "at most 48"),
    ],
)
def test_impossible_recipes_are_refused(pools, recipe, reason):
    with pytest.raises(ConfigError, match=reason):
        Trainer(pools, recipe)


def test_the_budget_is_time_or_steps(pools):
    with pytest.raises(ConfigError, match="not both"):
        next(Trainer(pools, Recipe(side=32, mosaics=20)).run())
    with pytest.raises(ConfigError, match="no time"):
        next(Trainer(pools, Recipe(side=32, mosaics=20)).run(seconds=0.0))


def test_drawing_processes_do_not_import_torch():
    code = "import sys, exdd_ray.weights.surface_resnet18.pools; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
