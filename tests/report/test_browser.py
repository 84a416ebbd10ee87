"""The page in a real browser: hostile texts do nothing, the filter works, and nothing needs JavaScript."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import factory
from tests.support.hostile_run import hostile_run
from trustescalate.report.document import build
from trustescalate.report.html import render_html
from trustescalate.report.text import visible

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.support.browser import MARKS, start_browser

pytestmark = MARKS


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    runs = {"hostile": hostile_run(), "run": factory.run(60)}
    for name, run in runs.items():
        (folder / f"{name}.html").write_text(render_html(build(run).page()), "utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in runs}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def listening(browser: webdriver.Chrome) -> None:
    script = (
        "window.__violations = [];"
        "document.addEventListener('securitypolicyviolation',"
        " event => { window.__violations.push(event.violatedDirective); });"
        "window.alert = () => { window.__pwned = 'alert'; };"
    )
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})


def test_hostile_texts_do_nothing(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    listening(browser)
    browser.get(pages["hostile"])
    browser.execute_script("document.querySelectorAll('details').forEach(part => { part.open = true; });")
    assert browser.execute_script("return typeof window.__pwned") == "undefined"
    assert browser.execute_script("return window.__violations") == []
    injected = (
        "iframe, svg:not(.plot, .share), img, object, body script ~ script, [onerror], [onload], [style]"
    )
    assert browser.find_elements(By.CSS_SELECTOR, injected) == []
    assert browser.execute_script("return document.scripts.length") == 1
    assert browser.execute_script("return document.querySelector('h1').textContent").startswith(
        "</script><script>"
    )
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


def test_the_page_asks_the_network_for_nothing(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    browser.get_log("performance")
    browser.get(pages["hostile"])
    asked = [
        entry["message"]
        for entry in browser.get_log("performance")
        if "requestWillBeSent" in entry["message"]
    ]
    assert asked
    assert not [message for message in asked if "http://" in message or "https://" in message]


def test_charts_are_drawn_in_both_schemes(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(pages["run"])
        charts = browser.find_elements(By.CSS_SELECTOR, "svg.plot")
        assert [chart.rect["width"] > 100 for chart in charts] == [True] * 6
        assert "Risk-coverage curve" in [chart.accessible_name for chart in charts]
        colours.add(browser.find_element(By.CSS_SELECTOR, "svg.plot .dot").value_of_css_property("fill"))
    assert len(colours) == 2


@pytest.mark.parametrize("name", ["run", "hostile"])
def test_nothing_is_wider_than_a_small_screen(
    browser: webdriver.Chrome, pages: dict[str, str], name: str
) -> None:
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(pages[name])
    width = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 400


def rows(browser: webdriver.Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('.item:not([hidden])')].map(row => row.dataset.id)"
    ids: list[str] = browser.execute_script(script)
    return ids


def test_abstained_rows_come_first_and_the_filter_works(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    browser.get(pages["run"])
    states = browser.execute_script(
        "return [...document.querySelectorAll('.item')].map(row => row.dataset.state)"
    )
    assert states == ["abstained"] * 6 + ["released"] * 54
    Select(browser.find_element(By.ID, "items-state")).select_by_value("abstained")
    assert len(rows(browser)) == 6
    assert browser.find_element(By.ID, "items-shown").text == "6 of 60 rows shown"
    Select(browser.find_element(By.ID, "items-state")).select_by_value("")
    Select(browser.find_element(By.ID, "items-judge")).select_by_value("large")
    assert len(rows(browser)) == 6
    Select(browser.find_element(By.ID, "items-judge")).select_by_value("")
    browser.find_element(By.ID, "items-search").send_keys("ITEM-0042")
    assert rows(browser) == ["item-0042"]


def test_headings_sort(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    browser.get(pages["run"])
    button = browser.find_element(By.CSS_SELECTOR, "th[data-key=id] button")
    button.click()
    assert rows(browser)[:2] == ["item-0000", "item-0001"]
    button.click()
    assert rows(browser)[0] == "item-0059"
    heading = browser.find_element(By.CSS_SELECTOR, "th[data-key=id]")
    assert heading.get_attribute("aria-sort") == "descending"


def test_the_filter_takes_hostile_names(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    browser.get(pages["hostile"])
    judge = Select(browser.find_element(By.ID, "items-judge"))
    judge.select_by_index(1)
    assert 0 < len(rows(browser)) < 30
    assert browser.execute_script("return typeof window.__pwned") == "undefined"


def test_everything_is_there_without_javascript(tmp_path: Path, pages: dict[str, str]) -> None:
    driver = start_browser(tmp_path / "profile", javascript=False)
    try:
        driver.get(pages["run"])
        source = driver.find_element(By.TAG_NAME, "main").get_attribute("textContent") or ""
        assert not driver.find_element(By.ID, "items-controls").is_displayed()
        run = factory.run(60)
        for item in run.items:
            assert visible(item.id) in source
            assert all(text in source for text in (str(item.prompt), *item.responses))
        first = driver.find_element(By.CSS_SELECTOR, ".item details")
        first.find_element(By.TAG_NAME, "summary").click()
        assert "Decision trail per tier" in first.text
    finally:
        driver.quit()
