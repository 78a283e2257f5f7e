"""A sweep's report in a browser: at a desk and on a phone it works, and asks for nothing."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import test_report_browser as report_page
from sweep_inputs import make_sweep

from exdd_ray.report.sweep_data import read_sweep
from exdd_ray.report.sweep_page import write_sweep_report
from exdd_ray.report.sweep_tables import metric_cell

pytestmark = pytest.mark.slow

browser = report_page.browser  # skips where there is no Chromium


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    made = make_sweep(folder / "results", failed=(3,))
    write_sweep_report(made)
    for place in ("images", "store"):  # the page must not need them
        shutil.rmtree(folder / place)
    return made / "report.html"


@pytest.fixture(scope="module")
def rendered(browser: str, report: Path) -> subprocess.CompletedProcess[str]:
    return report_page.open_page(browser, report, "--dump-dom")


def found(browser: str, report: Path, script: str, width: int) -> str:
    """What a script in the page returns, in a frame of some width."""
    page, frame = report.with_name("measured.html"), report.with_name("frame.html")
    title = f"<script>onload = () => {{ document.title = (() => {{ {script} }})() }}</script></body>"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", title), encoding="utf-8")
    frame.write_text(
        f"<iframe src=measured.html width={width} height=800 "
        "onload='setTimeout(() => document.title = this.contentDocument.title)'></iframe>"
    )
    options = ("--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=5000", "--window-size=1400,900")
    dom = report_page.open_page(browser, frame, *options).stdout
    match = re.search(r"<title>(.*?)</title>", dom)
    assert match is not None
    return match[1]


def test_browser_reports_no_fault_and_asks_for_nothing(
    rendered: subprocess.CompletedProcess[str], report: Path
) -> None:
    assert [line for line in rendered.stderr.splitlines() if "CONSOLE" in line] == []
    assert report_page.requests_of(report) == set()


def test_numbers_and_figures_are_there(rendered: subprocess.CompletedProcess[str], report: Path) -> None:
    sweep, dom = read_sweep(report.parent), rendered.stdout
    for point in sweep.points:
        for metric in sweep.metrics():
            assert metric_cell(point, metric).text in dom
    assert dom.count('class="strand') == len(sweep.points)
    assert dom.count('class="hit"') == len(sweep.points)
    assert dom.count("<image id=") > 10
    shown = re.findall(r'<figure class="plot( many)?([^"]*)" data-metric="(\w+)"', dom)
    assert [metric for _, hidden, metric in shown if not hidden.strip()] == ["image_auroc"] * 2
    assert len(shown) == 2 * len(sweep.metrics())


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(browser: str, report: Path, width: int) -> None:
    script = "const e = document.documentElement; return `sideways ${e.scrollWidth - e.clientWidth} of ${innerWidth}`"
    assert found(browser, report, script, width) == f"sideways 0 of {width}"


def test_table_is_sorted_by_a_click(browser: str, report: Path) -> None:
    script = """
    const table = document.querySelector("table.points"), heads = [...table.tHead.rows[0].cells];
    const head = heads.find((one) => one.textContent.trim() === "Pixel AUROC, %");
    const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].dataset.sort).join(" ");
    const click = () => { head.querySelector("button").click(); return `${head.ariaSort} ${order()}`; };
    return [click(), click()].join("; ");
    """
    points = sorted(read_sweep(report.parent).points, key=lambda point: -point.values["pixel_auroc"].mean)
    numbers = [str(point.number) for point in points]
    wanted = f"descending {' '.join(numbers)}; ascending {' '.join(numbers[::-1])}"
    assert found(browser, report, script, 1280) == wanted


def test_a_tapped_line_tells_its_values(browser: str, report: Path) -> None:
    script = """
    const line = document.querySelector(".hit[data-of='7']");
    line.dispatchEvent(new PointerEvent("click", { bubbles: true }));
    const lit = [...document.querySelectorAll(".lit")].map((part) => part.dataset.point).join(" ");
    return `${lit}: ${document.querySelector(".readout").textContent}`;
    """
    said = found(browser, report, script, 390)
    assert said.startswith("7 7: #7 · variant painted &lt;blend&gt; · synthesizer count 150 · negative rate 0.1")
    assert "Bank vectors 6,000" in said


SPACES: dict[int, dict[str, tuple[Any, ...]]] = {
    2: {"count": (0, 50, 100)},
    3: {"count": (0, 50), "rate": (0.01, 0.1)},
    8: {
        "variant": ("painted", "cutpaste"),
        "count": (0, 50),
        **dict.fromkeys(("rate", "neighborhood", "layers", "epsilon", "pairing"), (1, 2)),
    },
}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("axes", SPACES)
def test_parallel_axes_are_readable_and_whole(browser: str, tmp_path: Path, axes: int, width: int) -> None:
    made = make_sweep(
        tmp_path / "results",
        space=SPACES[axes],
        objectives=("image_auroc",),
        seeds=(0,),
        categories=("wood",),
        stored=False,
    )
    write_sweep_report(made)
    script = """
    const svg = document.querySelector(".coordinates"), place = svg.getBoundingClientRect(), box = svg.parentElement;
    const titles = [...svg.querySelectorAll(".title")].map((title) => title.getBoundingClientRect());
    const inside = titles.every((t) => t.left >= place.left && t.right <= place.right && t.top >= place.top);
    const size = 12 * place.width / svg.viewBox.baseVal.width;
    const hinted = box.classList.contains("more") === box.scrollWidth > box.clientWidth + 1;
    return [titles.length, inside, size >= 10 && size <= 13, hinted, box.scrollWidth > box.clientWidth + 1].join(" ");
    """
    wide = str(width == 390 and axes > 2).lower()
    assert found(browser, made / "report.html", script, width) == f"{axes} true true true {wide}"


@pytest.mark.parametrize(("width", "more"), [(390, "true"), (1280, "false")])
def test_a_table_that_is_cut_says_so(browser: str, tmp_path: Path, width: int, more: str) -> None:
    made = make_sweep(tmp_path / "results", space=SPACES[2], seeds=(0,), categories=("wood",), stored=False)
    write_sweep_report(made)
    script = """
    const box = document.querySelector("table.points").parentElement, first = box.classList.contains("more");
    box.scrollLeft = box.scrollWidth; box.dispatchEvent(new Event("scroll"));
    return `${first} ${box.classList.contains("more")}`;
    """
    assert found(browser, made / "report.html", script, width) == f"{more} false"
