"""The report in a real browser without a network: the console, every filter, a link to an example, axe-core.

It needs Chromium and its driver, as Debian packs them (chromium, chromium-driver), and is skipped without them.
"""

import importlib.util
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grfd import evaluate
from grfd.api.job import Own
from grfd.api.report_data import report
from grfd.data import from_tensors, load
from grfd.evaluation import checks
from grfd.evaluation.probes import PROBES

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver is installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
DEMO = Path(__file__).parents[2] / "results/demo"
ONE = "random outputs"
EXAMPLES = 20
LINK = "#example=3&run=0&model=grfd&protocol=whitebox&threat=Table+1&attack=fgsm"
WIDTHS = (390, 768, 1280)
AXE = """const done = arguments[arguments.length - 1];
axe.run(document, {runOnly: arguments[0], resultTypes: ["violations"]}).then((found) => done(found.violations));"""
READY = "const a = document.documentElement.dataset; return a.charts === 'ready' && a.explorer === 'ready'"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's models, judged on a few images that are kept, with its report."""
    folder = tmp_path_factory.mktemp("browser") / "judged"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("records", "results.json", "evaluation.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "PROBES", {ONE: PROBES[ONE]})
        evaluate(folder, ("transfer", "whitebox"), ["fgsm"], EXAMPLES, keep_images=True)
    report(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


def opened(browser: Any, folder: Path, link: str = "", width: int = 1280) -> None:
    """Opens the report anew, and waits until it is drawn."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    browser.get((folder / "report.html").resolve().as_uri() + link)
    wait(browser, READY)


def wait(browser: Any, condition: str) -> None:
    for _ in range(300):
        if browser.execute_script(condition):
            return
        time.sleep(0.1)
    raise AssertionError(f"{condition} did not become true: {browser.get_log('browser')}")


def choose(browser: Any, name: str, value: str) -> None:
    browser.execute_script(
        "const s = document.getElementById('by-' + arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('change', {bubbles: true}));", name, value,
    )  # fmt: skip


def count(browser: Any) -> int:
    words = browser.execute_script("return document.getElementById('count').textContent")
    return 0 if words.startswith("No example") else int(words.split()[0].replace(",", ""))


def test_nothing_is_on_the_console_and_nothing_is_loaded(browser: Any, judged: Path) -> None:
    browser.get_log("browser")
    opened(browser, judged)
    assert browser.get_log("browser") == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert browser.execute_script("return document.querySelectorAll('.chart svg').length") >= 4


def test_a_cell_says_what_results_json_says(browser: Any, judged: Path) -> None:
    opened(browser, judged)
    for row in json.loads((judged / "results.json").read_text())["rows"]:
        name = f"{row['model']}/{row['protocol']}/{row['attack']}"
        cell = browser.find_element("css selector", f'[data-cell="{name}"]')
        assert cell.find_element("css selector", ".value").text == f"{100 * row['accuracy']:.1f}"
        assert cell.find_element("css selector", ".detail").text == f"{100 * row['low']:.0f}–{100 * row['high']:.0f}"


def test_every_filter_filters(browser: Any, judged: Path) -> None:
    opened(browser, judged)
    assert count(browser) == EXAMPLES
    counts = []
    for outcome in ("fooled", "withstands", "wrong"):
        choose(browser, "outcome", outcome)
        counts.append(count(browser))
        assert browser.execute_script("return document.querySelectorAll('#examples li').length") == counts[-1]
    assert sum(counts) == EXAMPLES
    choose(browser, "outcome", "all")
    choose(browser, "class", "7")
    assert 0 < count(browser) < EXAMPLES
    labels = "return [...document.querySelectorAll('#examples a')].map((each) => each.textContent.split(': ')[1][0])"
    assert set(browser.execute_script(labels)) == {"7"}
    choose(browser, "class", "all")
    for name in ("model", "protocol"):
        values = browser.execute_script(f"return [...document.getElementById('by-{name}').options].map((o) => o.value)")
        assert len(values) > 1
        for value in values:
            choose(browser, name, value)
            assert browser.execute_script(f"return document.getElementById('by-{name}').value") == value
            assert count(browser) == EXAMPLES


def test_orders_sort(browser: Any, judged: Path) -> None:
    opened(browser, judged, LINK)
    numbers = "return [...document.querySelectorAll('#examples a')].map((a) => Number(a.textContent.split(':')[0]))"
    for order in ("close", "wide"):
        choose(browser, "order", order)
        shown = browser.execute_script(numbers)
        assert sorted(shown) == list(range(EXAMPLES)) and shown != list(range(EXAMPLES))
    data = json.loads(browser.execute_script("return document.getElementById('data').textContent"))["explorer"]
    case = next(each for each in data["cases"] if (each["model"], each["protocol"]) == ("grfd", "whitebox"))
    ordered = [case["margins"][number] for number in shown]
    assert ordered == sorted(ordered, reverse=True)


def test_a_link_leads_to_an_example(browser: Any, judged: Path) -> None:
    opened(browser, judged, LINK)
    title = "return document.getElementById('example-title').textContent"
    assert browser.execute_script(title) == "Example 3: GRFD, whitebox, Table 1, FGSM"
    assert browser.execute_script("return document.querySelectorAll('#example .pictures canvas').length") == 5
    assert browser.execute_script("return document.activeElement.id") == "example"
    browser.execute_script("document.querySelectorAll('#examples a')[5].click()")
    wait(browser, f"{title}.startsWith('Example 5:')")
    assert "example=5" in browser.current_url
    browser.execute_script("document.querySelector('.steps button:last-child').click()")
    wait(browser, f"{title}.startsWith('Example 6:')")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_screen(browser: Any, judged: Path, width: int) -> None:
    opened(browser, judged, LINK, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(browser: Any, judged: Path, scheme: str) -> None:
    package = importlib.util.find_spec("axe_playwright_python")  # carries axe-core; it is not imported
    if package is None or not package.submodule_search_locations:
        pytest.skip("axe-playwright-python, which carries axe-core, is not installed")
    source = Path(package.submodule_search_locations[0], "axe.min.js").read_text()
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    opened(browser, judged, LINK)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.set_script_timeout(120)
    browser.execute_script(source)
    violations = browser.execute_async_script(AXE, ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"])
    found = [(each["id"], [node["html"][:120] for node in each["nodes"]][:3]) for each in violations]
    assert found == []


def test_a_class_named_like_a_script_is_only_a_name(browser: Any, judged: Path, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=document.title=1>"
    shutil.copytree(judged, folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"data": "mnist"', '"data": "tensors"'))
    mnist = load("mnist")
    images, labels = mnist.test.images[:EXAMPLES], mnist.test.labels[:EXAMPLES]
    names = ["<script>document.title = 1</script>", *map(str, range(1, 10))]
    report(folder, own=Own(data=from_tensors(mnist.train.images[:50], mnist.train.labels[:50], images, labels, names)))
    browser.get_log("browser")
    opened(browser, folder)
    assert browser.get_log("browser") == []
    options = "return [...document.getElementById('by-class').options].map((each) => each.textContent)"
    assert names[0] in browser.execute_script(options)
    assert browser.title.endswith("on tensors") and browser.execute_script("return document.scripts.length") == 3
