"""Mixtures: whose turn it is, what a part makes is what it makes alone, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from sweep_small import small_sweep
from synthesizer_inputs import INPAINT, make_images, quick

from exdd_ray.config.keys import resolve_key, set_key, value_at
from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import validate
from exdd_ray.experiment.remarks import synthesis_remarks
from exdd_ray.experiment.space import points_ahead
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.device import on_device
from exdd_ray.synthesizers.leaves import apportioned, leaves, turns
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import synthesize

REGION, CUT, PASTED = ({"kind": kind, "filters": None} for kind in ("per_region", "cutpaste", "pasted"))
PAINTED = {"kind": "inpaint", "filters": None, **INPAINT}


def mixed(*parts, count=9):
    """A mixture of (share, synthesizer)."""
    made = [{"share": share, "synthesizer": synthesizer} for share, synthesizer in parts]
    return quick("mixture", parts=made, count=count)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("seed", range(20))
def test_every_part_has_its_share_rounded_up_or_down_at_every_count(seed):
    rng = np.random.default_rng(seed)
    shares = tuple(float(share) for share in rng.uniform(0.01, 1, rng.integers(1, 7)).round(2))
    taken = apportioned(shares, 200)
    for count in range(201):
        assert apportioned(shares, count) == taken[:count]
        for place, share in enumerate(shares):
            assert abs(taken[:count].count(place) - count * share / sum(shares)) < 1


def test_shares_are_relative_and_equal_ones_alternate():
    assert apportioned((0.5, 0.5), 6) == apportioned((3, 3), 6) == (0, 1, 0, 1, 0, 1)
    assert apportioned((0.1, 0.2), 30) == apportioned((1, 2), 30)
    assert apportioned((0.3, 0.7), 1000).count(0) == 300
    assert apportioned((1, 1, 1), 4) == (0, 1, 2, 0)


def test_a_mixture_in_a_mixture_takes_turns_of_its_own():
    config = mixed((1, REGION), (1, {"kind": "mixture", "parts": [{"synthesizer": CUT}, {"synthesizer": PAINTED}]}))
    assert [leaf.part for leaf in leaves(config)] == ["per_region", "cutpaste", "inpaint"]
    assert [leaf.config.count for leaf in leaves(config)] == [5, 2, 2]
    assert turns(config) == (0, 1, 0, 2, 0, 1, 0, 2, 0)
    assert turns(mixed((1, REGION), (1, config))) == (0, 1, 0, 2, 0, 1, 0, 3, 0)


def test_parts_of_one_kind_are_counted():
    config = mixed((1, REGION), (1, {**REGION, "preset": "draem"}), (1, CUT))
    assert [leaf.part for leaf in leaves(config)] == ["per_region 1", "per_region 2", "cutpaste"]


def test_a_part_makes_what_it_makes_alone(images, tmp_path):
    store = Store(tmp_path)
    made = synthesize(mixed((2, REGION), (1, PAINTED)), *images, 3, store)
    assert [sample.part for sample in made.samples[:3]] == ["per_region", "per_region", "inpaint"]
    for kind, count in (("per_region", 6), ("inpaint", 3)):
        alone = synthesize(quick(kind, count=count), *images, 3, store)
        assert alone.fresh == 0
        its = [replace(sample, part="") for sample in made.samples if sample.part == kind]
        assert its == list(alone.samples)
    assert made.parts["inpaint"].fresh == 20


def test_fewer_samples_are_a_beginning_of_more(images, tmp_path):
    parts = ((0.5, REGION), (0.3, {**REGION, "preset": "draem"}), (0.2, CUT))
    many = synthesize(mixed(*parts, count=100), *images, 0, Store(tmp_path))
    few = synthesize(mixed(*parts, count=50), *images, 0, Store(tmp_path))
    assert few.samples == many.samples[:50]
    assert (len(many.samples), few.fresh) == (100, 0)
    assert len({sample.row.id for sample in many.samples}) == 100


def test_a_part_that_lacks_samples_is_named_and_its_turns_are_left_out(images, tmp_path):
    picky = {**CUT, "filters": {"min_inside": 30}}
    made = synthesize(mixed((1, REGION), (1, picky), count=20), *images, 0, Store(tmp_path))
    kept = len(made.parts["cutpaste"].samples)
    assert (made.lacking, made.parts["cutpaste"].lacking, made.parts["per_region"].lacking) == (10 - kept, 10 - kept, 0)
    assert 0 < kept < 10
    assert len(made.samples) == 10 + kept
    assert made.dropped == made.parts["cutpaste"].dropped == {"unchanged inside the mask": 20 - kept}
    lacks = f"cutpaste: {20 - kept} synthetic samples dropped ({20 - kept}: unchanged inside the mask); "
    assert made.remark == (f"{lacks}{10 - kept} are lacking",)


def test_a_part_that_can_make_none_is_named(images, tmp_path):
    normal, defects = images
    none = {**CUT, "filters": {"min_inside": 255}}
    with pytest.raises(DataError, match="^cutpaste: no synthetic sample is usable: 6 times: unchanged inside the mask"):
        synthesize(mixed((2, REGION), (1, none)), normal, defects, 0, Store(tmp_path))
    with pytest.raises(DataError, match="^pasted: .* needs a training defect that has a mask; there is none$"):
        plan_chunks(mixed((1, REGION), (1, PASTED)), normal, defects.slice(0, 0), 0)


def test_only_masks_are_taken_of_defects_that_are_not_trained_on(images):
    normal, defects = images
    masks_alone = mixed((1, REGION), (1, {**PAINTED, "masks": {"source": "positives"}}))
    assert plan_chunks(masks_alone, normal, defects.slice(0, 0), 0, masks=defects)
    with pytest.raises(DataError, match=r"^pasted: .* there is none$"):
        plan_chunks(mixed((1, REGION), (1, PASTED)), normal, defects.slice(0, 0), 0, masks=defects)


def test_parts_that_take_the_same_prompt_have_draws_of_their_own(images, tmp_path):
    nested = {"kind": "mixture", "parts": [{"synthesizer": {**REGION, "preset": "draem"}}, {"synthesizer": PAINTED}]}
    painted = {**PAINTED, "prompts": ["crack", "hole"]}
    config = mixed((1, REGION), (1, CUT), (1, nested), (1, painted), (1, REGION))
    assert [(leaf.part, leaf.draw) for leaf in leaves(config)] == [
        *(("per_region 1", 0), ("cutpaste", 1), ("per_region 2", 2), ("inpaint 1", 0), ("inpaint 2", 1)),
        ("per_region 3", 3),
    ]
    assert [leaf.path for leaf in leaves(config)][1:4] == [
        "synthesizer.parts.1.synthesizer",
        "synthesizer.parts.2.synthesizer.parts.0.synthesizer",
        "synthesizer.parts.2.synthesizer.parts.1.synthesizer",
    ]
    twins = synthesize(mixed((1, REGION), (1, REGION), count=20), *images, 0, Store(tmp_path))
    one, other = (made.samples for made in twins.parts.values())
    assert [sample.background for sample in one] != [sample.background for sample in other]
    overlaps = []
    for mine, theirs in zip(one, other, strict=True):
        (_, first), (_, second) = read_pair(mine.row), read_pair(theirs.row)
        overlaps.append((first & second).sum() / (first | second).sum())
    assert np.mean(overlaps) < 0.3
    assert len({sample.seed for sample in (*one, *other)}) == 20


def test_a_remark_on_a_part_names_its_key():
    config = ExperimentConfig(synthesizer=mixed((1, CUT), (1, {**REGION, "preset": "draem"})))
    (remark,) = synthesis_remarks(config)
    assert remark.endswith("; so in synthesizer.parts.1.synthesizer")


def test_the_device_is_every_parts():
    nested = mixed((1, REGION), (1, {"kind": "mixture", "parts": [{"synthesizer": PAINTED}]}))
    assert [leaf.config.run.device for leaf in leaves(on_device(nested, "cpu"))[1:]] == ["cpu"]
    assert on_device(nested, None) == nested


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"share": 0, "synthesizer": REGION}, r"synthesizer\.parts\.1\.share: Input should be greater than 0, not 0$"),
        ({"synthesizer": {**REGION, "count": 3}}, r"parts\.1\.synthesizer: count is the mixture's, and the share says"),
        (
            {"synthesizer": {"kind": "per_regio"}},
            r"parts\.1\.synthesizer\.kind: one of .*'mixture'.*, not 'per_regio'$",
        ),
        ({"synthesizer": {}}, r"parts\.1\.synthesizer: say which kind$"),
        ({"synthesizer": {**REGION, "textuers": 1}}, r"parts\.1: unknown .*textuers': did you mean 'synthesizer\.text"),
        ({"synthesizer": {**PAINTED, "masks": {"source": "x"}}}, r"parts\.1\.synthesizer\.masks\.source: Input"),
        ({"shar": 1, "synthesizer": REGION}, r"parts\.1: unknown config key 'shar': did you mean 'share'"),
        (3, r"synthesizer\.parts\.1: a group of keys .*, not 3$"),
    ],
)
def test_a_mistake_in_a_part_is_told_in_one_line_with_its_place(part, message, tmp_path):
    raw = {"synthesizer": {"kind": "mixture", "parts": [{"synthesizer": CUT}, part]}}
    with pytest.raises(ConfigError, match=message) as caught:
        validate(ExperimentConfig, raw, tmp_path / "file.yaml")
    assert "\n" not in str(caught.value)


def test_a_mixture_has_parts_and_no_filters():
    with pytest.raises(ValueError, match="a mixture has one at least"):
        mixed()
    with pytest.raises(ValueError, match="a mixture's samples are filtered by its parts"):
        quick("mixture", filters={})


def test_keys_of_parts_are_set_by_their_places():
    raw = {"synthesizer": {"kind": "mixture", "parts": [{"synthesizer": CUT}, {"synthesizer": PAINTED}]}}
    path = resolve_key("parts.1.share", ExperimentConfig)
    assert path == "synthesizer.parts.1.share"
    assert value_at(set_key(raw, path, 0.2), path) == 0.2
    deep = resolve_key("synthesizer.parts.1.synthesizer.guidance", ExperimentConfig)
    changed = ExperimentConfig.model_validate(set_key(raw, deep, 7)).synthesizer
    assert leaves(changed)[1].config.guidance == 7
    assert raw["synthesizer"]["parts"][1] == {"synthesizer": PAINTED}
    with pytest.raises(ConfigError, match=r"parts is a list of 2, counted from 0, and has no 2$"):
        set_key(raw, "synthesizer.parts.2.share", 1)
    with pytest.raises(ConfigError, match=r"synthesizer\.parts\.0: unknown config key 'sahre': did you mean 'share'"):
        resolve_key("parts.0.sahre", ExperimentConfig)
    with pytest.raises(ConfigError, match=r"synthesizer\.prompts is no list of groups of keys: give it as a whole"):
        resolve_key("prompts.0", ExperimentConfig)


def test_an_unreadable_background_is_told_of_with_the_part(images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    rows = catalog_rows(images[0])
    some = build_catalog([replace(rows[0], image=str(broken)), *rows[1:]])
    made = synthesize(mixed((1, REGION), (1, CUT), count=20), some, images[1], 0, Store(tmp_path / "store"))
    assert {remark.partition(":")[0] for remark in made.remark} == {"per_region", "cutpaste"}


def test_a_sweep_varies_shares_parts_and_counts(tmp_path):
    parts = [{"share": 1, "synthesizer": REGION}, {"share": 1, "synthesizer": CUT}]
    space = {
        "synthesizer.parts.0.share": [1, 3],
        "parts.1.synthesizer": [CUT, {"kind": "pasted"}],
        "synthesizer.count": [4, 8],
    }
    mixture = {"kind": "mixture", "parts": parts}
    loaded = small_sweep(tmp_path, synthesizer=mixture, space=space)
    made = [leaves(point.trials[0][1].config.synthesizer) for point in points_ahead(loaded)]
    counts = [[(leaf.part, leaf.config.count) for leaf in each] for each in made]
    assert counts[:2] == [[("per_region", 2), ("cutpaste", 2)], [("per_region", 4), ("cutpaste", 4)]]
    assert counts[-1] == [("per_region", 6), ("pasted", 2)]
    whole = small_sweep(tmp_path, synthesizer=mixture, space={"synthesizer.parts": [parts, parts[:1]]})
    assert [len(leaves(point.trials[0][1].config.synthesizer)) for point in points_ahead(whole)] == [2, 1]
    assert len({point.name for point in points_ahead(whole)}) == 2
