import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_inputs import make_results, write_run

from exdd_ray.report.page import write_run_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on PATH")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    results = write_run(folder / "results", make_results(folder / "images"))
    write_run_report(results)
    for place in ("images", "store"):
        shutil.rmtree(folder / place)  # the page must not need them
    return results / "report.html"


def open_page(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--log-net-log={page.with_suffix('.net.json')}",
        f"--user-data-dir={page.parent / 'profile'}",
        "--enable-logging=stderr",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def rendered(browser: str, report: Path) -> subprocess.CompletedProcess[str]:
    return open_page(browser, report, "--dump-dom")


def test_tables_and_figures_are_there(rendered: subprocess.CompletedProcess[str]) -> None:
    dom = rendered.stdout
    assert dom.count("<tbody>") >= 4
    assert dom.count('class="plot"') == 2 * (2 + 1 + 3 + 2)
    assert dom.count("<image id=") > 10
    assert dom.count('class="verdict ') > 20
    assert "dual bank, &lt;real&gt; defects" in dom


def test_script_shows_one_category_and_one_trial(rendered: subprocess.CompletedProcess[str]) -> None:
    dom = rendered.stdout
    assert re.search(r'<html[^>]*class="js"', dom)
    assert re.search(r"<label class=\"picker\" hidden", dom) is None
    panels = re.findall(r'<div class="panel([^"]*)" data-trial="(\d)" data-group="(\d)"', dom)
    assert [(trial, group) for hidden, trial, group in panels if not hidden.strip()] == [("1", "0")]
    assert len(panels) == 4


def test_browser_reports_no_fault(rendered: subprocess.CompletedProcess[str]) -> None:
    assert [line for line in rendered.stderr.splitlines() if "CONSOLE" in line] == []


def requests_of(page: Path) -> set[str]:
    """What the page asked for over a network; the browser's own requests have no origin."""
    log = json.loads(page.with_suffix(".net.json").read_text())
    asked = [event["params"] for event in log["events"] if "initiator" in event.get("params", {})]
    return {
        entry["url"]
        for entry in asked
        if entry["initiator"] != "not an origin" and not entry["url"].startswith(("file:", "data:"))
    }


def test_page_asks_for_nothing(browser: str, rendered: subprocess.CompletedProcess[str], report: Path) -> None:
    assert rendered.returncode == 0
    assert requests_of(report) == set()
    other = report.parent / "other.html"
    other.write_text("<img src='https://example.invalid/x.png'>")
    open_page(browser, other, "--dump-dom")
    assert requests_of(other) == {"https://example.invalid/x.png"}  # so the log would have told


def test_page_fits_a_phone(browser: str, report: Path) -> None:
    """Nothing may be wider than a frame of 390 pixels, or the whole page would scroll sideways."""
    measured, frame = report.parent / "measured.html", report.parent / "phone.html"
    source = report.read_text(encoding="utf-8")
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    script = f"<script>document.title = 'sideways ' + ({width}) + ' of ' + innerWidth</script></body>"
    measured.write_text(source.replace("</body>", script), encoding="utf-8")
    frame.write_text(
        "<iframe src=measured.html width=390 height=800 onload='document.title = this.contentDocument.title'></iframe>"
    )
    dom = open_page(browser, frame, "--dump-dom", "--allow-file-access-from-files").stdout
    assert "<title>sideways 0 of 390</title>" in dom
