import base64
import io
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
from contact_sheet_inputs import DUPLICATE, LEAKAGE, PROMPTS, make_normal, make_sets, write_normal
from PIL import Image

from exdd_ray.data.images import read_image
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import ArtifactError, DataError, ImageError
from exdd_ray.report import contact_sheet
from exdd_ray.report.contact_sheet import (
    ROOM,
    SynthesisSet,
    count_samples,
    headline,
    makers,
    render_contact_sheet,
    write_contact_sheet,
)
from exdd_ray.report.samples import draw_sample, read_sample
from exdd_ray.report.strips import by_prompt, first_samples
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.synthesize import Synthesis, SyntheticSample, synthesize

NAME = "surfaces & <defects>"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[SynthesisSet]:
    return make_sets(tmp_path_factory.mktemp("synthesis"))


@pytest.fixture(scope="module")
def page(sets: list[SynthesisSet]) -> str:
    return render_contact_sheet(NAME, sets)


def text_of(html: str) -> str:
    """What a reader sees, with single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.S)).split())


def decoded(uri: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,"))))
    return np.asarray(image.convert("RGB")).astype(float)


def pictures_of(article: str) -> list[np.ndarray]:
    return [decoded(uri) for uri in re.findall(r'(?:href|src)="(data:image[^"]+)"', article)]


# Counts


def test_counts_are_of_each_prompt(sets: list[SynthesisSet]) -> None:
    assert [(c.prompt, c.asked, c.kept, c.dropped) for c in count_samples(sets[1])] == [
        (PROMPTS[0], 5, 4, 1),
        (PROMPTS[1], 5, 3, 2),
    ]
    assert [(c.prompt, c.asked, c.kept, c.dropped) for c in count_samples(sets[0])] == [("", 12, 12, 0)]


@pytest.mark.parametrize("dropped", [{}, {DUPLICATE: 4}])
def test_counts_that_contradict_each_other_are_refused(sets: list[SynthesisSet], dropped: dict[str, int]) -> None:
    wrong = replace(sets[1], synthesis=replace(sets[1].synthesis, dropped=dropped))
    with pytest.raises(DataError, match="10 samples drawn, but 7 are kept"):
        render_contact_sheet(NAME, [wrong])


def test_samples_of_an_unknown_prompt_are_refused(sets: list[SynthesisSet]) -> None:
    stranger = tuple(replace(made, prompt="hole") for made in sets[1].synthesis.samples[:3])
    samples = (*stranger, *sets[1].synthesis.samples)
    wrong = replace(sets[1], synthesis=Synthesis(samples, {}))
    with pytest.raises(DataError, match="10 samples drawn, but 10 are kept and 0 dropped; 3 of unknown prompts"):
        count_samples(wrong)


def test_headline_counts_everything(sets: list[SynthesisSet]) -> None:
    found = headline(sets, [count_samples(entry) for entry in sets])
    assert found == (
        "19 synthetic defects of 2 prompts, made by per-region, inpaint on procedural / wood, procedural / ceramic. "
        "3 of 22 were dropped."
    )


def test_table_holds_counts_reasons_and_pace(page: str) -> None:
    table = text_of(page[page.index('class="counts"') : page.index('id="quality"')])
    assert "MemSeg procedural / wood, seed 3 12 12 – 8 12 in 1.5 s" in table
    assert f"10 7 3 – 1: {DUPLICATE} 2: the paint &lt;failed&gt;" in table
    assert f"{escape(PROMPTS[0])} 5 4 1 {PROMPTS[1]} 5 3 2" in table


# Quality and remarks


def test_quality_names_networks_and_counts(sets: list[SynthesisSet], page: str) -> None:
    quality = sets[0].quality
    assert quality is not None
    section = text_of(page[page.index('id="quality"') : page.index('id="samples"')])
    kid = quality.figures[0]
    assert kid.name == "KID-surface_resnet18"
    assert f"{kid.name} {kid.value:.4g} ± {kid.std:.2g} 5 12 {kid.note}" in section
    assert f"Network: {quality.networks[0]}" in section
    assert "IS-surface_resnet18. surface_resnet18 gives no class scores" in section
    assert "DIAG &amp; co · ceramic · seed 3: not measured." in section


def test_leakage_is_red_first_and_says_where(page: str) -> None:
    flags = re.findall(r'<li class="(\w+)">(.*?)</li>', page, re.S)
    assert [kind for kind, _ in flags] == ["leakage", "notice"]
    assert text_of(flags[0][1]) == f"Leakage {LEAKAGE.removeprefix('leakage: ')} DIAG &amp; co · ceramic · seed 3"
    assert page.count('<span class="tag">leakage</span>') == 2


# Samples


def test_first_samples_of_each_prompt_are_shown_and_said_to_be(sets: list[SynthesisSet], page: str) -> None:
    heads = [text_of(head) for head in re.findall(r"<h4>(.*?)</h4>", page, re.S)]
    assert heads == ["per-region, memseg first 8 of 12", f"{escape(PROMPTS[0])} all 4", "stain all 3"]
    ids = re.findall(r'<span class="sample">(.*?)</span>', page)
    shown = [*sets[0].synthesis.samples[: ROOM.each], *sets[1].synthesis.samples]
    assert ids == [escape(made.row.id) for made in shown]
    assert re.findall(r"<span>seed (\d+)</span>", page) == [str(made.seed) for made in shown]


@pytest.mark.parametrize(("copies", "most"), [(3, 8), (7, 8), (8, 7), (20, 3), (61, 1), (90, 1)])
def test_no_more_samples_than_a_page_holds(sets: list[SynthesisSet], copies: int, most: int) -> None:
    group = by_prompt(sets[0].synthesis.samples, sets[0].config)
    counts = [len(samples) for shown in first_samples([group] * copies, ROOM) for _, samples in shown]
    shown = min(copies, ROOM.total)
    assert counts == [most] * shown + [0] * (copies - shown)
    assert sum(counts) <= ROOM.total


def test_pictures_are_those_of_the_files(sets: list[SynthesisSet], page: str) -> None:
    articles = re.findall(r"<article.*?</article>", page, re.S)
    shown = [*sets[0].synthesis.samples[: ROOM.each], *sets[1].synthesis.samples]
    assert len(articles) == len(shown)
    for article, made in zip(articles, shown, strict=True):
        background, result, mask, _ = read_sample(made)
        pictures = draw_sample(made)
        x, y, width, height = (round(value) for value in pictures.zoomed)  # images this small are not reduced
        zoom = np.s_[y : y + height, x : x + width]
        for found, true in zip(pictures_of(article), (background, result, background[zoom], result[zoom]), strict=True):
            assert found.shape == true.shape
            assert np.abs(found - true).mean() < 6
        assert mask[zoom].any()
        assert f"<span>mask {100 * mask.mean():.2g} %</span>" in article
        assert "resized" not in article


def test_zoom_holds_the_largest_region(sets: list[SynthesisSet], tmp_path: Path) -> None:
    made = sets[0].synthesis.samples[0]
    mask = np.zeros((64, 80), dtype=np.uint8)
    mask[50:60, 60:75] = 255
    mask[2, 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    pictures = draw_sample(replace(made, row=replace(made.row, mask=str(tmp_path / "mask.png"))))
    x, y, width, height = pictures.zoomed
    assert (width, height) == (33, 33)
    assert x <= 60
    assert x + width >= 75
    assert 2 < y <= 50
    assert y + height >= 60
    assert pictures.zoom_side == 33


def test_background_of_another_size_is_resized_and_said_to_be(sets: list[SynthesisSet], tmp_path: Path) -> None:
    made = sets[0].synthesis.samples[0]
    original = Image.open(made.background)
    original.resize((240, 192), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
    large = replace(made, background=str(tmp_path / "large.png"))
    background, result, _, resized = read_sample(large)
    assert resized == (240, 192)
    assert background.shape == result.shape
    assert np.abs(background.astype(float) - np.asarray(original)).mean() < 8
    one = SynthesisSet("t", "d", "c", 0, PerRegionConfig(count=1), Synthesis((large,), {}))
    assert "large.png, resized from 240 × 192</span>" in render_contact_sheet(NAME, [one])


def test_a_whole_image_is_shown_on_nothing(sets: list[SynthesisSet]) -> None:
    made = sets[0].synthesis.samples[0]
    whole = replace(made, background="", row=replace(made.row, mask=None))
    background, result, mask, resized = read_sample(whole)
    assert (background == 127).all()
    np.testing.assert_array_equal(result, read_image(whole.row.image))
    assert mask.all()
    assert resized is None
    assert draw_sample(whole).share == 1
    with pytest.raises(ArtifactError, match="a synthetic defect without a mask"):
        read_sample(replace(made, row=replace(made.row, mask=None)))


def test_large_images_become_thumbnails_of_the_same_shape(tmp_path: Path) -> None:
    normal = make_normal(tmp_path, "wood", (150, 300), 1)
    made = synthesize(PerRegionConfig(count=1), normal, normal.slice(0, 0), 1, Store(tmp_path / "s")).samples[0]
    pictures = draw_sample(made)
    assert (pictures.background.size, pictures.result.size) == ((240, 120), (240, 120))
    assert pictures.zoom_background.size == pictures.zoom_result.size
    points = np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", pictures.outline), dtype=float)
    mask = read_pair(made.row)[1]
    assert mask is not None
    assert points[:, 0].max() / 240 == pytest.approx((np.flatnonzero(mask.any(axis=0))[-1] + 1) / 300, abs=0.02)


# Page


def test_page_needs_nothing_from_outside(page: str) -> None:
    targets = re.findall(r"(?:\bhref|\bsrc|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert len(targets) > 50
    assert {target for target in targets if not target.startswith(("#", "data:"))} == set()
    assert "://" not in re.sub(r"data:[^\"]*", "", page)
    assert set(re.findall(r'<use href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


def test_page_escapes_names(page: str) -> None:
    for raw in ("<deep>", "<defects>", "<note>", "<failed>"):
        assert raw not in page
        assert escape(raw) in page


def test_configs_are_resolved_and_name_who_made_them(sets: list[SynthesisSet], page: str) -> None:
    configs = page[page.index('id="configs"') :]
    assert "inpaint, preset best, model miniature" in configs
    assert "preset: memseg" in configs
    assert "strength: 0.99" in configs
    (maker,) = makers(sets[0].synthesis)
    assert re.match(r"exdd-ray \S+, torch \S+, diffusers \S+, transformers \S+$", maker)
    assert configs.count(f"Made with {maker}") == 2


def test_file_stays_small_whatever_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is the worst there is to compress; eight samples must keep to their share of what sixty may take."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (260, 260, 3), dtype=np.uint8) for _ in range(8)]
    normal = write_normal(tmp_path, "noise", noise)
    config = PerRegionConfig(count=ROOM.each)
    synthesis = synthesize(config, normal, normal.slice(0, 0), 0, Store(tmp_path / "store"))
    entry = SynthesisSet("noise", "procedural", "noise", 0, config, synthesis)
    room = replace(ROOM, characters=ROOM.characters * ROOM.each // ROOM.total)
    monkeypatch.setattr(contact_sheet, "ROOM", room)
    write_contact_sheet(tmp_path / "sheet.html", "noise", [entry])
    assert 100_000 < (tmp_path / "sheet.html").stat().st_size < 3_000_000 * ROOM.each / ROOM.total


def test_set_without_samples(sets: list[SynthesisSet]) -> None:
    none = SynthesisSet("none", "d", "c", 0, PerRegionConfig(count=0), Synthesis((), {}))
    found = text_of(render_contact_sheet(NAME, [none]))
    assert "0 synthetic defects, made by per-region on d / c." in found
    assert "none kept" in found


def test_nothing_to_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no synthesis"):
        write_contact_sheet(tmp_path / "sheet.html", NAME, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["background", "image"])
def test_file_that_is_gone_is_named(sets: list[SynthesisSet], what: str, tmp_path: Path) -> None:
    made: SyntheticSample = sets[0].synthesis.samples[0]
    gone = str(tmp_path / "gone.png")
    lost = replace(made, background=gone) if what == "background" else replace(made, row=replace(made.row, image=gone))
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        draw_sample(lost)


def test_artifact_without_manifest_is_named(sets: list[SynthesisSet], tmp_path: Path) -> None:
    made = sets[0].synthesis.samples[0]
    Image.fromarray(read_image(made.row.image)).save(tmp_path / "000000.png")
    moved = replace(made, row=replace(made.row, image=str(tmp_path / "000000.png")))
    with pytest.raises(ArtifactError, match="damaged artifact"):
        makers(Synthesis((moved,), {}))
