"""An override wins in every experiment, whatever variants, datasets, grid and space say, or is refused in a line."""

import pytest
import yaml

from exdd_ray.errors import ConfigError
from exdd_ray.experiment.space import load_run, load_sweep

PER_REGION = {"kind": "per_region", "preset": "memseg", "count": 7}
CUTPASTE = {"kind": "cutpaste", "count": 3}
VARIANTS = {
    "a": {"synthesizer": {"kind": "per_region", "preset": "memseg", "count": 80}},
    "b": {"synthesizer": CUTPASTE},
}


def synthesizers(tmp_path, *overrides, load=load_run, **given):
    """What each experiment of a file has for a synthesizer: its kind and count."""
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump({"dataset": {"name": "procedural"}, **given}, sort_keys=False))
    found = [trial.config.synthesizer for trial in load(file, overrides).trials]
    return [one and (one.kind, one.count) for one in found]


FIVE = [("per_region", 5), ("cutpaste", 5)]


@pytest.mark.parametrize(
    "given",
    [
        {"variants": VARIANTS},
        {"variants": VARIANTS, "synthesizer": PER_REGION},
        {"grid": {"synthesizer": [one["synthesizer"] for one in VARIANTS.values()]}},
        {"load": load_sweep, "select": "test", "space": {"synthesizer": [PER_REGION, CUTPASTE]}},
        {"load": load_sweep, "select": "test", "datasets": VARIANTS},
        {"load": load_sweep, "select": "test", "synthesizer": PER_REGION, "datasets": {"a": {}, "b": VARIANTS["b"]}},
    ],
)
def test_an_override_below_a_group_wins_wherever_the_group_is_given_whole(tmp_path, given):
    assert synthesizers(tmp_path, "synthesizer.count=5", **given) == FIVE


def test_an_override_reaches_a_baseline_that_gives_the_group_whole(tmp_path):
    given = {"select": "test", "space": {"synthesizer": [PER_REGION, CUTPASTE]}, "baseline": {"synthesizer": CUTPASTE}}
    assert synthesizers(tmp_path, "synthesizer.count=5", load=load_sweep, **given) == FIVE[::-1]


def test_a_group_that_a_variant_unsets_stays_unset(tmp_path):
    variants = {"none": {"synthesizer": None}, **VARIANTS}
    assert synthesizers(tmp_path, "synthesizer.count=5", variants=variants) == [None, *FIVE]
    untuned = {"lora": {"synthesizer": {"kind": "lora", "tuning": None, "prompts": ["hole"], "count": 5}}}
    assert synthesizers(tmp_path, "synthesizer.tuning.epochs=1", variants=untuned) == [("lora", 5)]


def test_an_override_reaches_into_a_list_that_a_variant_gives(tmp_path):
    parts = [{"synthesizer": {"kind": "cutpaste"}}, {"synthesizer": {"kind": "per_region"}}]
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump({"variants": {"mixed": {"synthesizer": {"kind": "mixture", "parts": parts}}}}))
    (trial,) = load_run(file, ["synthesizer.parts.1.share=3"]).trials
    assert [part.share for part in trial.config.synthesizer.parts] == [1, 3]


def test_a_group_given_whole_leaves_what_it_does_not_say_to_variants(tmp_path):
    counts = {"few": {"synthesizer.count": 2}, "more": {"synthesizer.count": 4}}
    given = {"synthesizer": PER_REGION, "variants": counts}
    assert synthesizers(tmp_path, "synthesizer={kind: cutpaste}", **given) == [("cutpaste", 2), ("cutpaste", 4)]
    assert synthesizers(tmp_path, "synthesizer={kind: cutpaste, count: 3}", **given) == [("cutpaste", 3)]
    assert synthesizers(tmp_path, "synthesizer=null", **given) == [None]


def test_an_override_without_variants_is_the_base_s_own(tmp_path):
    given = {"synthesizer": PER_REGION, "variants": VARIANTS}
    assert synthesizers(tmp_path, "variants={}", "synthesizer.count=5", **given) == FIVE[:1]


def test_an_override_of_a_part_leaves_the_key_of_the_same_ending_above_it(tmp_path):
    mixture = {"kind": "mixture", "parts": [{"synthesizer": {"kind": "cutpaste"}}]}
    given = {"synthesizer": mixture, "variants": {"all": {}, "few": {"synthesizer.count": 2}}}
    found = synthesizers(tmp_path, "synthesizer.parts.0.synthesizer.kind=per_region", **given)
    assert found == [("mixture", 100), ("mixture", 2)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("synthesizer.tuning.epochs=1", "synthesizer.tuning: not a key of synthesizer.per_region .in 'a', one of its"),
        ("synthesizer.parts.0.share=1", "synthesizer.parts: not a key of synthesizer.per_region .in 'a', one of its"),
    ],
)
def test_an_override_that_a_variant_cannot_have_is_refused_with_its_name(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        synthesizers(tmp_path, override, variants=VARIANTS)


def test_what_an_adaptive_search_raises_is_refused(tmp_path):
    tuner = {"kind": "asha", "points": 3, "fidelity": {"key": "count", "rungs": [10, 20]}}
    given = {"load": load_sweep, "select": "test", "synthesizer": PER_REGION, "tuner": tuner}
    space = {"bank.negative.rate": [0.1, 0.2]}
    with pytest.raises(ConfigError, match="count is what the search raises: override tuner.fidelity.rungs"):
        synthesizers(tmp_path, "synthesizer.count=5", **given, space=space)
