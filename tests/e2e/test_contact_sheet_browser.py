import re
import shutil
import subprocess
from pathlib import Path

import pytest
import test_report_browser as report_page
from contact_sheet_inputs import LEAKAGE, make_sets

from exdd_ray.report.contact_sheet import write_contact_sheet

pytestmark = pytest.mark.slow

browser = report_page.browser  # skips where there is no Chromium


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sheet")
    write_contact_sheet(folder / "sheet.html", "surfaces & <defects>", make_sets(folder / "data"))
    shutil.rmtree(folder / "data")  # the page must not need them
    return folder / "sheet.html"


@pytest.fixture(scope="module")
def rendered(browser: str, sheet: Path) -> subprocess.CompletedProcess[str]:
    return report_page.open_page(browser, sheet, "--dump-dom")


def measured(browser: str, sheet: Path, script: str, *, width: int) -> str:
    """What a script in the page finds, in a frame of some width; it sees the page once all is loaded."""
    page, frame = sheet.with_name("measured.html"), sheet.with_name("frame.html")
    title = f"<script>onload = () => {{ document.title = {script} }}</script></body>"
    source = sheet.read_text(encoding="utf-8").replace("</body>", title)
    page.write_text(source.replace("default-src", "script-src 'unsafe-inline'; default-src"), encoding="utf-8")
    frame.write_text(
        f"<iframe src=measured.html width={width} height=800 "
        "onload='setTimeout(() => document.title = this.contentDocument.title)'></iframe>"
    )
    dom = report_page.open_page(
        browser, frame, "--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=5000"
    ).stdout
    found = re.search(r"<title>(.*?)</title>", dom)
    assert found is not None
    return found[1]


def test_rows_and_tables_are_there(rendered: subprocess.CompletedProcess[str]) -> None:
    dom = rendered.stdout
    assert dom.count('<article class="made">') == 8 + 4 + 3
    assert dom.count("<figure") == 5 * (8 + 4 + 3)
    assert dom.count("<tbody>") == 3
    assert LEAKAGE.removeprefix("leakage: ") in dom
    assert "a &lt;deep&gt; scratch" in dom


def test_browser_reports_no_fault_and_asks_for_nothing(rendered: subprocess.CompletedProcess[str], sheet: Path) -> None:
    assert [line for line in rendered.stderr.splitlines() if "CONSOLE" in line] == []
    assert report_page.requests_of(sheet) == set()


def test_every_picture_decodes(browser: str, sheet: Path) -> None:
    script = "[...document.images].map(image => image.naturalWidth).join(' ')"
    widths = measured(browser, sheet, script, width=1200).split()
    assert len(widths) == 3 * (8 + 4 + 3)
    assert all(int(width) > 20 for width in widths)


@pytest.mark.parametrize(("width", "columns"), [(1200, 5), (390, 3)])
def test_pictures_lie_side_by_side_and_nothing_sticks_out(browser: str, sheet: Path, width: int, columns: int) -> None:
    tops = "[...document.querySelector('.views').children].map(child => Math.round(child.getBoundingClientRect().top))"
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    first, rest = measured(browser, sheet, f"{tops}.join(' ') + ' sideways ' + ({sideways})", width=width).split(
        " sideways "
    )
    assert rest == "0"
    places = first.split()
    assert len(places) == 5
    assert places.count(places[0]) == columns
    assert len(set(places)) == (1 if columns == 5 else 2)


def test_leakage_is_red_in_the_page(browser: str, sheet: Path) -> None:
    script = "getComputedStyle(document.querySelector('.flags .leakage')).color"
    red, green, blue = map(int, re.findall(r"\d+", measured(browser, sheet, script, width=1200)))
    assert red > 1.5 * max(green, blue)
