"""Published figures: beside which trials they are printed, and that they are marked and change no key."""

import json
from pathlib import Path
from statistics import mean, stdev

import pyarrow.parquet as pq
import pytest
import yaml
from sweep_small import BASE, small_sweep

from exdd_ray.cli.main import main
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.beside import beside_published
from exdd_ray.experiment.space import load_raw_run, points_ahead

PAPER = "A paper, table 3"
FIGURES = [
    {"metric": "image_ap", "value": 0.626, "std": 0.059, "source": PAPER, "of": {"variant": "few", "count": 4}},
    {"metric": "image_auroc", "value": 0.5, "source": f"{PAPER} <and> more", "of": {"bank.negative.rate": 0.05}},
    {"metric": "image_auroc", "value": 0.9, "source": PAPER, "of": {"synthesizer.count": 99}},
]


def experiment(folder: Path, published: list, **changes: object) -> Path:
    """A run of two variants of one count with two seeds."""
    raw = {key: value for key, value in BASE.items() if key != "space"} | {
        "variants": {"few": {"synthesizer.count": 4}, "none": {"synthesizer": None}},
        "grid": {"bank.negative.rate": [0.05]},
        "store": str(folder / "store"),
        "published": published,
        **changes,
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results' folder of the run."""
    folder = tmp_path_factory.mktemp("published")
    assert main(["run", str(experiment(folder, FIGURES)), f"output={folder / 'results'}"]) == 0
    return folder / "results"


def test_figures_are_beside_the_trials_that_they_are_of(ran: Path) -> None:
    found = json.loads((ran / "summary.json").read_text())["published"]
    few, none = "few, rate=0.05", "none, rate=0.05"
    of = [(few, "image_ap", 0.626, 0.059), (few, "image_auroc", 0.5, None), (none, "image_auroc", 0.5, None)]
    assert [(one["point"], one["metric"], one["published"], one["published_std"]) for one in found] == of
    rows = pq.read_table(ran / "trials.parquet").to_pylist()
    for one in found:
        values = [row[one["metric"]] for row in rows if row["name"] == one["point"]]
        assert (one["measured"], one["measured_std"]) == pytest.approx((mean(values), stdev(values)))
        assert one["seeds"] == 2


def test_pages_and_terminals_print_them_marked(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ran / "report.html").read_text()
    assert page.count("<em>62.60 ± 5.90</em>") == 1
    assert "Published, not measured here" in page
    assert "A paper, table 3 &lt;and&gt; more" in page
    assert main(["compare", str(ran), "--page", str(ran.parent / "compare.html")]) == 0
    assert (ran.parent / "compare.html").read_text().count("<em>62.60 ± 5.90</em>") == 1
    printed = capsys.readouterr().out
    assert "beside published figures, which were not measured here" in printed
    assert "62.60 ± 5.90" in printed


def test_a_sweep_prints_them_too_and_no_trial_is_made_again(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = yaml.safe_load(experiment(ran.parent, []).read_text())
    space = {**raw.pop("grid"), "synthesizer.count": [4]}
    path = ran.parent / "sweep.yaml"
    sweep = {**raw, "variants": {}, "space": space, "published": [{**FIGURES[0], "of": {"count": 4}}]}
    path.write_text(yaml.safe_dump(sweep))
    assert main(["sweep", str(path), "--here", f"output={ran.parent / 'swept'}", "--json"]) == 0
    printed = capsys.readouterr().out
    assert "beside published figures, which were not measured here" in printed
    (figure,) = json.loads(printed.splitlines()[-1])["published"]
    assert figure["measured"] == json.loads((ran / "summary.json").read_text())["published"][0]["measured"]
    assert "<em>62.60 ± 5.90</em>" in (ran.parent / "swept" / "report.html").read_text()


def test_runs_without_them_say_nothing(tmp_path: Path) -> None:
    loaded = small_sweep(tmp_path)
    assert beside_published(loaded, []) == []


def test_an_override_of_what_is_varied_leaves_them_beside_the_trials_that_are_left(tmp_path: Path) -> None:
    raw = yaml.safe_load(experiment(tmp_path, FIGURES).read_text()) | {"variants": {}}
    loaded = load_raw_run(raw, tmp_path / "run.yaml")
    (point,) = points_ahead(loaded)
    row = {"name": point.name, "settings": json.dumps(point.settings), "dataset": "procedural", "seed": 0}
    failed = {**row, "state": "failed", "category": "ceramic", "image_auroc": None}
    (one,) = beside_published(loaded, [failed])
    assert (one.metric, one.measured, one.seeds) == ("image_auroc", None, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "image_app"}, r"published\.0: no metric is called 'image_app'; there are image_auroc, image_ap"),
        ({"value": 62.6}, r"published\.0: image_ap is a share between 0 and 1, not 62\.6"),
        ({"std": -1}, r"published\.0\.std: Input should be greater than or equal to 0"),
        ({"source": ""}, r"published\.0\.source: "),
        ({"of": {"variant": "fwe"}}, r"published\.0\.of\.variant: no variant is called 'fwe'"),
        ({"of": {"cuont": 4}}, r"published\.0\.of\.cuont: unknown config key 'cuont': did you mean '.*count'"),
    ],
)
def test_a_mistake_is_told_in_one_line(changes: dict, message: str, tmp_path: Path) -> None:
    raw = yaml.safe_load(experiment(tmp_path, [{**FIGURES[0], **changes}]).read_text())
    with pytest.raises(ConfigError, match=message) as caught:
        load_raw_run(raw, tmp_path / "run.yaml")
    assert "\n" not in str(caught.value)
