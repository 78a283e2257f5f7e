"""As many good samples as are asked for, whatever the filters drop: few are the beginning of many."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from inpaint_inputs import make_ceramic, make_random_model

from exdd_ray.report.contact_sheet import SynthesisSet, count_samples
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.chunk import INDEX
from exdd_ray.synthesizers.config import FilterConfig
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.job import CHUNK
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import Synthesis, synthesize


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("taken")


@pytest.fixture(scope="module")
def config(place) -> InpaintConfig:
    return make_random_model(place / "model").model_copy(update={"prompts": ("scratch", "hole")})


@pytest.fixture(scope="module")
def normal(place):
    return make_ceramic(place)


def made(config, normal, place, count: int, least: float | None = None) -> Synthesis:
    """So many samples, of those that change their mask by so much at least."""
    filters = None if least is None else FilterConfig(min_inside=least, max_outside=255, duplicate=0)
    wanted = config.model_copy(update={"count": count, "filters": filters})
    return synthesize(wanted, normal, normal.slice(0, 0), 0, Store(place / "store"))


@pytest.fixture(scope="module")
def changes(config, normal, place) -> dict[str, float]:
    """Of the first 40 samples of each prompt what is filtered by, by id; prompts take turns."""
    everything = made(config, normal, place, 80)
    jobs = plan_chunks(config.model_copy(update={"count": 80}), normal, normal.slice(0, 0), 0)
    inside = {
        f"inpaint/{job.prompt}/{row['number']:06d}": row["inside"]
        for job in jobs
        for row in pq.read_table(Store(place / "store").peek(job.recipe.key).file(INDEX)).to_pylist()
    }
    return {sample.row.id: inside[sample.row.id] for sample in everything.samples}


def ids(synthesis: Synthesis) -> list[str]:
    return [sample.row.id for sample in synthesis.samples]


def by_hand(changes: dict[str, float], least: float, count: int) -> list[str]:
    """The first good ones of each prompt, in turns."""
    good = {p: [one for one in changes if f"/{p}/" in one and changes[one] >= least] for p in ("scratch", "hole")}
    return [one for pair in zip(good["scratch"], good["hole"], strict=False) for one in pair][:count]


def test_dropped_samples_are_replaced_and_few_are_the_beginning_of_many(config, normal, place, changes):
    least = float(np.quantile(list(changes.values()), 0.25))
    few, many = (made(config, normal, place, count, least) for count in (2 * CHUNK, 3 * CHUNK))
    assert ids(many) == by_hand(changes, least, 3 * CHUNK)
    assert ids(few) == ids(many)[: 2 * CHUNK]
    assert few.lacking == many.lacking == 0
    assert sum(many.dropped.values()) == sum(many.drawn.values()) - 3 * CHUNK > 0
    assert "dropped (" in many.remark[0]
    assert many.remark[0].endswith(", and others made instead")


def test_twice_as_many_are_drawn_at_most(config, normal, place, changes):
    least = float(np.quantile(list(changes.values()), 0.9))
    few: Synthesis = made(config, normal, place, 2 * CHUNK, least)
    assert few.drawn == {"scratch": 2 * CHUNK, "hole": 2 * CHUNK}
    assert few.lacking == 2 * CHUNK - len(few.samples) > 0
    assert few.remark[0].endswith(f"; {few.lacking} are lacking")
    wanted = config.model_copy(update={"count": 2 * CHUNK})
    counts = count_samples(SynthesisSet("t", "d", "c", 0, wanted, few))
    assert [(count.asked, count.drawn) for count in counts] == [(CHUNK, 2 * CHUNK)] * 2
    assert sum(count.dropped for count in counts) == sum(few.dropped.values())


def test_none_are_wanted(config, normal, place):
    assert made(config, normal, place, 0).samples == ()


def test_the_store_is_not_written_into_twice(config, normal, place: Path, changes):
    again = made(config, normal, place, 3 * CHUNK, float(np.quantile(list(changes.values()), 0.25)))
    assert again.fresh == 0
