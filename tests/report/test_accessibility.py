"""Every page for everybody: no barrier that axe-core calls serious, and no screen too narrow."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile_run import hostile_run
from trustescalate.report.document import build
from trustescalate.report.html import render_html

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver

from tests.support.browser import MARKS, serious_barriers, start_browser

pytestmark = MARKS
SAMPLES = sorted((Path(__file__).parents[2] / "reports").glob("*.html"))
PAGES = [*(path.stem for path in SAMPLES), "hostile"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    hostile = tmp_path_factory.mktemp("pages") / "hostile.html"
    hostile.write_text(render_html(build(hostile_run()).page()), "utf-8")
    return {path.stem: path.as_uri() for path in (*SAMPLES, hostile)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.mark.parametrize("name", PAGES)
def test_no_barrier_is_serious(browser: webdriver.Chrome, pages: dict[str, str], name: str) -> None:
    browser.get(pages[name])
    assert serious_barriers(browser) == []
    browser.execute_script("document.querySelectorAll('details').forEach(part => { part.open = true; });")
    assert serious_barriers(browser) == []


def test_a_barrier_is_seen(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><html lang="en"><title>x</title><img src="data:,"><input>', "utf-8")
    browser.get(page.as_uri())
    assert [rule.partition(":")[0] for rule in serious_barriers(browser)[:2]] == ["image-alt", "label"]


@pytest.mark.parametrize("width", [1280, 768, 390])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_screen(
    browser: webdriver.Chrome, pages: dict[str, str], name: str, width: int
) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(pages[name])
    browser.execute_script("document.querySelectorAll('details').forEach(part => { part.open = true; });")
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= width
