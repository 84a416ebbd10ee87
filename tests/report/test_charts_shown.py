"""Charts in a real browser: text of at least 11 px on every screen, apart, and in the colours of the page."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.support import pictures
from trustescalate.report.charts import draw, draw_file
from trustescalate.report.html import render_html

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver

from tests.support.browser import MARKS, start_browser

pytestmark = MARKS
ASSETS = Path(render_html.__code__.co_filename).with_name("assets")
TROUBLE = """
const trouble = [];
for (const drawing of document.querySelectorAll("svg.plot")) {
  const frame = drawing.getBoundingClientRect(), scale = frame.width / 440;
  const texts = [...drawing.querySelectorAll("text")].map(text => [text, text.getBoundingClientRect()]);
  texts.forEach(([text, box], place) => {
    const words = text.textContent.slice(0, 40);
    const size = parseFloat(getComputedStyle(text).fontSize) * scale;
    if (size < 11 || size > 16.5) trouble.push(`${size} px: ${words}`);
    if (box.left < frame.left - 1 || box.right > frame.right + 1) trouble.push(`outside: ${words}`);
    for (const [other, rival] of texts.slice(0, place)) {
      const across = box.left < rival.right - 1 && rival.left < box.right - 1;
      if (across && box.top + 2 < rival.bottom - 2 && rival.top + 2 < box.bottom - 2) {
        trouble.push(`over one another: ${words} / ${other.textContent.slice(0, 40)}`);
      }
    }
  });
}
return trouble;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Charts in cards as wide as the window."""
    style = "".join((ASSETS / name).read_text("utf-8") for name in ("page.css", "chart.css"))
    style += "body { padding: 0; max-width: none; } .chart { border: 0; padding: 0; }"
    drawn = chain(pictures.CASES.values(), *map(pictures.random_pictures, range(4)))
    cards = "".join(f'<figure class="card chart">{draw(picture)}</figure>' for picture in drawn)
    path = tmp_path_factory.mktemp("charts") / "charts.html"
    path.write_text(f'<!DOCTYPE html><meta charset="utf-8"><style>{style}</style>{cards}', "utf-8")
    return path.as_uri()


@pytest.mark.parametrize("width", [320, 390, 508, 640])
def test_text_is_large_enough_and_apart(browser: webdriver.Chrome, page: str, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page)
    assert browser.execute_script(TROUBLE) == []


def test_a_file_of_its_own_has_its_colours(browser: webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "power.svg"
    path.write_text(draw_file(pictures.POWER), "utf-8")
    browser.get(path.as_uri())
    colour = "return getComputedStyle(document.querySelector('.dot')).fill"
    assert browser.execute_script(colour) == "rgb(36, 89, 166)"
