"""What every synthesizer of the table must keep to."""

import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from synthesizer_inputs import QUICK, make_images, quick

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import DataError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.config import FilterConfig
from exdd_ray.synthesizers.filters import measure_change
from exdd_ray.synthesizers.job import CHUNK
from exdd_ray.synthesizers.leaves import each_leaf, leaves, turns
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import Synthesis, run_on_threads, synthesize
from exdd_ray.synthesizers.table import samples_of_prompts, synthesizers

KINDS = tuple(synthesizers())
MANY = CHUNK + 2  # a second chunk of one prompt, or one of each of two


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> tuple[pa.Table, pa.Table]:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """Synthesizer -> its many samples, made in one go."""

    @cache
    def made(kind: str) -> Synthesis:
        return synthesize(quick(kind, count=MANY), *images, 3, Store(tmp_path_factory.mktemp(kind)))

    return made


def assert_same(some: Synthesis, others: Synthesis) -> None:
    """The same samples to the bit, as far as there are both."""
    for one, other in zip(some.samples, others.samples, strict=False):
        assert (one.row.id, one.row.origin, one.seed) == (other.row.id, other.row.origin, other.seed)
        for mine, theirs in zip(read_pair(one.row), read_pair(other.row), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def pairs(synthesis: Synthesis, count: int | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and masks of the first samples."""
    return [read_pair(sample.row) for sample in synthesis.samples[:count]]


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_as_asked_for_are_made_with_exact_masks(kind, whole, images):
    synthesis = whole(kind)
    assert len({sample.row.id for sample in synthesis.samples}) == len(synthesis.samples) == MANY
    assert len({sample.seed for sample in synthesis.samples}) == MANY
    config = quick(kind, count=MANY)
    each = leaves(config)
    assert [sample.part for sample in synthesis.samples] == [each[leaf].part for leaf in turns(config)]
    for leaf in each:
        prompts, its = (
            list(samples_of_prompts(leaf.config)),
            [one for one in synthesis.samples if one.part == leaf.part],
        )
        assert [sample.prompt for sample in its] == [prompts[i % len(prompts)] for i in range(len(its))]
    for sample in synthesis.samples:
        assert sample.background in images[0]["image"].to_pylist()
        image, mask = read_pair(sample.row)
        assert 0 < mask.sum() < mask.size
        change = measure_change(read_image(sample.background), image, mask)
        assert change.inside > 10 * change.outside


@pytest.mark.parametrize("kind", KINDS)
def test_few_are_the_beginning_of_many_and_a_killed_run_makes_only_what_is_missing(kind, whole, images, tmp_path):
    store, config = Store(tmp_path), quick(kind, count=MANY)

    def killed(store, jobs, advance):
        run_on_threads(store, jobs[:1], advance)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(config, *images, 3, store, run=killed)
    resumed = synthesize(config, *images, 3, store)
    assert resumed.fresh == CHUNK * (len(plan_chunks(config, *images, 3)) - 1) > 0
    few = synthesize(quick(kind, count=3), *images, 3, store)
    again = synthesize(config, *images, 3, store)
    assert (len(few.samples), few.fresh, again.fresh) == (3, 0, 0)
    for one in (few, resumed, again):
        assert_same(one, whole(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_gives_other_samples(kind, whole, images, tmp_path):
    other = synthesize(quick(kind, count=1), *images, 4, Store(tmp_path)).samples[0]
    first = whole(kind).samples[0]
    assert other.row.id == first.row.id
    assert not np.array_equal(read_image(other.row.image), read_image(first.row.image))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_images_are_refused_in_one_line_that_names_them(kind, images, tmp_path):
    normal, defects = images
    config = quick(kind, count=3)
    with pytest.raises(DataError, match="no normal image to paint defects on"):
        synthesize(config, normal.slice(0, 0), defects, 0, Store(tmp_path))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    unreadable = build_catalog([replace(catalog_rows(normal)[0], image=str(broken))])
    with pytest.raises(DataError, match="no synthetic sample is usable: .*broken.png: not an image") as caught:
        synthesize(config, unreadable, defects, 0, Store(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_defects_are_needed_by_those_that_say_so(kind, images, tmp_path):
    normal, defects = images
    config = quick(kind, count=3)
    needed = synthesizers()[kind].defects(config)
    if needed is None:
        assert plan_chunks(config, normal, defects, 0) == plan_chunks(config, normal, defects.slice(0, 0), 0)
        return
    without_mask = build_catalog([replace(row, mask=None) for row in catalog_rows(defects)])
    with pytest.raises(DataError, match=f"{needed.asked_by} needs a training defect that has a mask; there is none"):
        synthesize(config, normal, without_mask, 0, Store(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_counts_and_filters_are_no_part_of_a_key_and_the_version_is(kind, images, monkeypatch):
    def key(**given):
        config = each_leaf(quick(kind, count=30), lambda leaf: leaf.model_copy(update=given))
        return plan_chunks(config, *images, 0)[0].recipe.key

    first = key(filters=None)
    assert plan_chunks(quick(kind, count=3), *images, 0)[0].recipe.key == first
    assert key(filters=FilterConfig(duplicate=9)) == first
    raised = {name: replace(one, version=one.version + 1) for name, one in synthesizers().items()}
    monkeypatch.setattr("exdd_ray.synthesizers.table.synthesizers", lambda: raised)
    assert key(filters=None) != first


@pytest.mark.parametrize("kind", KINDS)
def test_a_synthesizer_is_known_by_its_kind(kind, images):
    config = ExperimentConfig.model_validate({"synthesizer": {"kind": kind, **QUICK.get(kind, {})}}).synthesizer
    assert type(config) is synthesizers()[kind].config
    assert (config.kind, config.count) == (kind, 100)
    assert type(config).model_validate_json(config.model_dump_json()) == config
    jobs = plan_chunks(quick(kind, count=3), *images, 0)
    assert pickle.loads(pickle.dumps(jobs)) == jobs


GOLDEN = {
    ("per_region", 4): [(923, 106.08), (113, 124.96), (352, 101.95)],
    ("cutpaste", 4): [(20, 157.65), (10, 72.4), (846, 121.48)],
    ("inpaint", 4): [(31, 114.98), (216, 119.17), (41, 136.58)],
    ("lora", 2): [(165, 103.95), (80, 69.51), (150, 105.28)],
    ("dualanodiff", 2): [(33, 125.21), (60, 80.22), (88, 87.42)],
    ("pasted", 2): [(261, 27.18), (144, 31.1), (260, 56.7)],
    ("mixture", 1): [(923, 106.08), (31, 114.98), (113, 124.96)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_that_change_raise_the_version(kind, whole):
    """Pixels of the mask, and the mean level inside, of the first three samples."""
    version = synthesizers()[kind].version
    if kind not in {known for known, _ in GOLDEN}:
        pytest.skip("what it makes is not written down yet")
    found = [(int(mask.sum()), float(image[mask].mean())) for image, mask in pairs(whole(kind), 3)]
    assert (kind, version) in GOLDEN, f"write down what version {version} of {kind} makes: {found}"
    for (pixels, level), (old_pixels, old_level) in zip(found, GOLDEN[kind, version], strict=True):
        assert (pixels, level) == (old_pixels, pytest.approx(old_level, abs=0.05)), (
            f"{kind} makes other samples than it did: raise `version` in exdd_ray/synthesizers/{kind}/synthesizer.py, "
            f"and write down here what it makes: {found}"
        )
