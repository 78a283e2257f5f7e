"""The synthetic defects in the report of a run."""

import re
import shutil
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from contact_sheet_inputs import PROMPTS, make_sets
from report_inputs import DETECTORS, Run, make_run

from exdd_ray.errors import ImageError
from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.report.contact_sheet import SynthesisSet
from exdd_ray.report.numbers import group_by_category
from exdd_ray.report.page import render_report
from exdd_ray.report.synthetic import ROOM, synthetic_sets
from exdd_ray.synthesizers.synthesize import Synthesis


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def sets(folder: Path) -> list[SynthesisSet]:
    return make_sets(folder / "sets")


@pytest.fixture(scope="module")
def made(folder: Path, sets: list[SynthesisSet]) -> Run:
    """Two seeds of a trial without synthetic defects and of three with some."""
    run, results = make_run(folder / "run", categories=("wood",))
    plain, dual = results[:2], results[2:]
    whole, painted = sets
    few = Synthesis(whole.synthesis.samples[:2], {})
    trained = [
        trained_on(result, replace(entry, synthesis=synthesis), name)
        for name, entry, synthesis in (
            ("few", whole, few),
            ("many", whole, whole.synthesis),
            ("painted", painted, painted.synthesis),
        )
        for result in dual
    ]
    return run, plain + trained


def trained_on(result: StoredResult, entry: SynthesisSet, name: str) -> StoredResult:
    config = result.trial.config.model_copy(update={"synthesizer": entry.config})
    made, trial = entry.synthesis, replace(result.trial, name=name, config=config)
    return replace(result, trial=trial, samples=made.samples, dropped=sum(made.dropped.values()))


@pytest.fixture(scope="module")
def section(made: Run) -> str:
    page = render_report(*made)
    assert '<a href="#synthetic">' in page
    return page[page.index('<section id="synthetic">') : page.index('<section id="configs">')]


def test_each_set_is_shown_once_with_prompts_seeds_and_masks(sets: list[SynthesisSet], section: str) -> None:
    heads = re.findall(r"<h3>(.*?)</h3>", section)
    assert [head.split(" · ")[0] for head in heads] == ["many", "painted"]
    assert all(' seed 0 <span class="tag">leakage</span>' in head for head in heads)
    assert [head.split(" <span")[0] for head in re.findall(r"<h4>(.*?)</h4>", section, re.S)] == [
        "per-region, memseg", escape(PROMPTS[0]), PROMPTS[1]
    ]  # fmt: skip
    shown = [made for entry in sets for _, samples in _by_prompt(entry) for made in samples[: ROOM.each]]
    assert re.findall(r'<span class="sample">(.*?)</span>', section) == [escape(made.row.id) for made in shown]
    assert re.findall(r"<span>seed (\d+)</span>", section) == [str(made.seed) for made in shown]
    assert section.count('<path class="outline"') == len(shown)
    assert section.count("3 more failed or were filtered out.") == 1


def _by_prompt(entry: SynthesisSet) -> list[tuple[str, list]]:
    prompts = dict.fromkeys(made.prompt for made in entry.synthesis.samples)
    return [(prompt, [made for made in entry.synthesis.samples if made.prompt == prompt]) for prompt in prompts]


def test_no_two_pictures_of_the_page_share_a_key(made: Run) -> None:
    page = render_report(*made)
    keys = re.findall(r'<image id="([^"]+)"', page)
    assert len(keys) == len(set(keys))
    assert set(re.findall(r'<use href="#([^"]+)"', page)) <= set(re.findall(r' id="([^"]+)"', page))


def test_a_run_without_synthetic_defects_has_no_such_section(tmp_path: Path) -> None:
    run, results = make_run(tmp_path, categories=("wood",), seeds=(0,), detectors=DETECTORS[:1])
    page = render_report(run, results)
    assert "synthetic" not in page.lower().replace("normal + defect + synthetic", "")
    assert synthetic_sets(group_by_category(results)) == ()


def test_many_sets_keep_to_the_page(sets: list[SynthesisSet], made: Run) -> None:
    whole, result = sets[0], made[1][2]
    samples = whole.synthesis.samples
    turned = [Synthesis((*samples[i:], *samples[:i]), {}) for i in range(12)] * 3
    results = [
        replace(trained_on(result, replace(whole, synthesis=synthesis), "t"), category=f"c{number}")
        for number, synthesis in enumerate(turned)
    ]
    strips = [strip for entry in synthetic_sets(group_by_category(results)) for strip in entry.strips]
    assert [len(strip.rows) for strip in strips] == [1] * ROOM.total + [0] * (36 - ROOM.total)
    size = sum(len(uri) for strip in strips for row in strip.rows for uri in row.uris)
    assert 20_000 < size < ROOM.characters


def test_a_sample_that_is_gone_is_named(sets: list[SynthesisSet], made: Run, tmp_path: Path) -> None:
    first = sets[0].synthesis.samples[0]
    copy = Path(shutil.copy(first.row.image, tmp_path))
    lost = replace(first, row=replace(first.row, image=str(copy)))
    copy.unlink()
    result = trained_on(made[1][2], replace(sets[0], synthesis=Synthesis((lost,), {})), "lost")
    with pytest.raises(ImageError, match="no such file"):
        render_report(made[0], [result])


def test_leakage_marks_the_sets_that_it_is_about(made: Run) -> None:
    clean = [replace(result, remarks=()) if result.trial.name == "many" else result for result in made[1]]
    assert [entry.leaks for entry in synthetic_sets(group_by_category(clean))] == [False, True]
