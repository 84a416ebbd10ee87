"""The page in a real browser: hostile texts do nothing, and its items can be found, opened and linked."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import factory
from tests.support.hostile_run import hostile_run
from trustescalate.report.document import build
from trustescalate.report.figures import Figure
from trustescalate.report.html import render_html
from trustescalate.report.text import visible

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.support.browser import MARKS, serious_barriers, start_browser

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
    browser.execute_script("document.querySelector('button.id').click();")
    for words in ("Compare", "Copy link", "Add to review"):
        press(browser, words)
    assert browser.execute_script("return typeof window.__pwned") == "undefined"
    assert browser.execute_script("return window.__violations") == []
    injected = "iframe, svg:not(.plot, .share), img, object, main script, [onerror], [onload], [style]"
    assert browser.find_elements(By.CSS_SELECTOR, injected) == []
    assert browser.execute_script("return document.querySelectorAll('script:not([type])').length") == 3
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
        assert len(charts) > 6
        assert all(chart.rect["width"] > 100 for chart in charts)
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
    ids: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#items-table tr.row')].map(row => row.dataset.id)"
    )
    return ids


def press(browser: webdriver.Chrome, words: str) -> None:
    script = (
        "const all = [...document.querySelectorAll('#items button')];"
        "all.find((each) => each.textContent.includes(arguments[0])).click();"
    )
    browser.execute_script(script, words)


def text(browser: webdriver.Chrome, selector: str) -> str:
    return str(browser.find_element(By.CSS_SELECTOR, selector).text)


def wait(browser: webdriver.Chrome, script: str) -> None:
    WebDriverWait(browser, 5, 0.05).until(lambda _: browser.execute_script(f"return {script}"))


def shown(browser: webdriver.Chrome, words: str) -> None:
    wait(browser, f"document.getElementById('items-shown').textContent === {words!r}")


def test_the_table_is_paged_and_filtered(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    browser.get(pages["run"])
    listed = [row.id for row in build(factory.run(60)).items]
    assert rows(browser) == listed[:50]
    assert text(browser, "#items-shown") == "60 items"
    press(browser, "Next")
    assert rows(browser) == listed[50:]
    state = Select(browser.find_element(By.ID, "items-state"))
    state.select_by_value("abstained")
    assert len(rows(browser)) == 6
    shown(browser, "6 of 60 items")
    state.select_by_value("")
    Select(browser.find_element(By.ID, "items-judge")).select_by_value("large")
    assert len(rows(browser)) == 6
    press(browser, "Clear")
    browser.find_element(By.ID, "items-disagrees").click()
    assert rows(browser) == listed[:4]
    browser.find_element(By.ID, "items-disagrees").click()
    browser.find_element(By.ID, "items-failed").click()
    assert rows(browser) == ["item-0009", "item-0029", "item-0049"]
    press(browser, "Clear")
    search = browser.find_element(By.ID, "items-search")
    search.send_keys("ITEM-0042")
    shown(browser, "1 of 60 items")
    assert rows(browser) == ["item-0042"]
    search.clear()
    search.send_keys("paracetamol")
    shown(browser, "12 of 60 items")
    wait(browser, "location.hash === '#q=paracetamol'")
    browser.get(pages["run"] + "#q=item-00&state=released&sort=-id")
    browser.refresh()
    assert rows(browser)[0] == "item-0058"
    assert text(browser, "#items-shown") == "54 of 60 items"


def test_headings_sort(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    browser.get(pages["run"])
    browser.refresh()
    first = rows(browser)
    button = browser.find_element(By.CSS_SELECTOR, "th[data-key=id] button")
    browser.execute_script("arguments[0].click()", button)
    assert rows(browser)[:2] == ["item-0000", "item-0001"]
    browser.execute_script("arguments[0].click()", button)
    assert rows(browser)[0] == "item-0059"
    heading = browser.find_element(By.CSS_SELECTOR, "th[data-key=id]")
    assert heading.get_attribute("aria-sort") == "descending"
    browser.execute_script("arguments[0].click()", button)
    assert rows(browser) == first
    states = "return [...document.querySelectorAll('#items .row')].map(row => row.dataset.state)"
    for sort in ("score", "-score", "verdict", "-verdict", "judge", "-judge"):
        browser.get(pages["run"] + f"#sort={sort}")
        browser.refresh()
        assert set(browser.execute_script(states)) == {"released"}, sort
    browser.get(pages["run"] + "#q=no-such-item")
    browser.refresh()
    assert rows(browser) == []
    assert text(browser, "#items tbody") == "No item matches. Clear the filters."


def test_a_figure_is_not_broken_inside_a_number(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = build(factory.run()).page()
    amounts = ("USD 109.26", "USD 12,109.26", "USD 1,234,567.89", "−USD 109.26")
    figures = tuple(
        replace(key, figure=Figure(1.0, text)) for key, text in zip(page.figures, amounts, strict=True)
    )
    path = tmp_path / "figures.html"
    path.write_text(render_html(replace(page, figures=figures)), "utf-8")
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(path.as_uri())
        lines = (
            "return [...document.querySelectorAll('.figure')].map(each =>"
            " [each.scrollWidth - each.clientWidth, "
            "Math.round(each.clientHeight / parseFloat(getComputedStyle(each).lineHeight))])"
        )
        assert browser.execute_script(lines) == [[0, 1]] * 4
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("media", ["print", "screen"])
def test_items_are_cards_on_a_small_screen_and_a_table_on_paper(
    browser: webdriver.Chrome, pages: dict[str, str], media: str
) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    size = {"width": 680, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(pages["run"])
        style = "return getComputedStyle(document.querySelector('#items .row')).display"
        assert browser.execute_script(style) == ("table-row" if media == "print" else "block")
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_filter_takes_hostile_names(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    browser.get(pages["hostile"])
    Select(browser.find_element(By.ID, "items-judge")).select_by_index(1)
    assert 0 < len(rows(browser)) < 30
    assert browser.execute_script("return typeof window.__pwned") == "undefined"


ODD = (
    "a&b=c",
    "50 % / #1",
    "ä ö 漢字 🙂",
    "x" * 10_000,
    "</script>\u2028",
    "\u202eabc\u200b",
    "it's",
    "item",
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page whose items have ids that are hard to put into an address."""
    run = factory.run(60, annotated=False)
    names = {item.id: ODD[place] if place < len(ODD) else item.id for place, item in enumerate(run.items)}
    items = tuple(replace(item, id=names[item.id]) for item in run.items)
    decisions = tuple(replace(row, item_id=names[row.item_id]) for row in run.decisions)
    path = tmp_path_factory.mktemp("odd") / "report.html"
    path.write_text(render_html(build(replace(run, items=items, decisions=decisions)).page()), "utf-8")
    return path.as_uri()


def test_a_link_opens_an_item_whatever_its_id(browser: webdriver.Chrome, odd: str) -> None:
    browser.get(odd)
    for name in ODD:
        browser.execute_script("location.hash = 'item=' + encodeURIComponent(arguments[0])", name)
        script = "document.querySelector('tr.open')?.dataset.id"
        wait(browser, f"{script} === {json.dumps(name)}")
    browser.get(f"{odd}#item={quote(ODD[2], safe='')}")
    browser.refresh()
    assert browser.execute_script(f"return {script}") == ODD[2]
    assert browser.execute_script("return document.activeElement.className") == "id"
    place = browser.execute_script("return document.querySelector('tr.open').getBoundingClientRect().top")
    assert 0 <= place < 600
    browser.execute_script("location.hash = 'item=never%20there'")
    wait(browser, "document.getElementById('items-message').textContent !== ''")
    assert text(browser, "#items-message") == "No item with the id “never there” is on this page."


def test_keys_move_open_and_close(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    browser.get(pages["run"])
    browser.refresh()
    focused = "return document.activeElement.closest('tr')?.dataset.id"
    listed = [row.id for row in build(factory.run(60)).items]
    browser.execute_script("document.querySelector('button.id').focus()")

    def key(name: str) -> None:
        browser.switch_to.active_element.send_keys(name)

    key(Keys.ARROW_DOWN)
    assert browser.execute_script(focused) == listed[1]
    key(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.getAttribute('aria-expanded')") == "true"
    panel = browser.find_element(By.CSS_SELECTOR, ".panel")
    assert panel.find_element(By.CSS_SELECTOR, "svg.axis").accessible_name.startswith(
        "Score 0.835, threshold"
    )
    key(Keys.ESCAPE)
    assert browser.find_elements(By.CSS_SELECTOR, ".panel") == []
    assert browser.execute_script(focused) == listed[1]
    key(Keys.END)
    key(Keys.ARROW_DOWN)
    assert browser.execute_script(focused) == listed[50]
    key(Keys.ARROW_UP)
    assert browser.execute_script(focused) == listed[49]
    assert browser.find_element(By.ID, "items-table").get_attribute("aria-rowcount") == "61"
    last = browser.find_elements(By.CSS_SELECTOR, "tr.row")[-1]
    assert last.get_attribute("aria-rowindex") == "51"


def test_an_opened_item_shows_every_vote_and_a_diff(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    browser.get(pages["run"] + "#item=item-0009")
    browser.refresh()
    tables = browser.find_elements(By.CSS_SELECTOR, ".panel table.votes")
    assert [len(table.find_elements(By.CSS_SELECTOR, "tbody > tr")) for table in tables] == [10, 10, 10]
    cells = tables[2].find_elements(By.CSS_SELECTOR, "tbody > tr:first-child > td")
    assert [cell.text for cell in cells] == [
        "A first",
        "1",
        "—",
        "—",
        "no answer in time, after all attempts",
        "USD 0",
    ]
    press(browser, "Compare word")
    first, second = browser.find_elements(By.CSS_SELECTOR, ".response")
    assert "It depends on the details" in first.find_element(By.TAG_NAME, "del").text
    assert "Sunlight holds all colours" in second.find_element(By.TAG_NAME, "ins").text
    left = "".join(
        browser.execute_script(
            "return [...arguments[0].querySelectorAll('p')].map(p => p.textContent)", first
        )
    )
    assert left == str(factory.run(60).items[9].responses[0])
    assert serious_barriers(browser) == []
    press(browser, "Compare word")
    assert browser.find_elements(By.CSS_SELECTOR, "ins, del") == []


@pytest.mark.parametrize("refused", [True, False])
def test_the_command_is_copied_or_selected(browser: webdriver.Chrome, odd: str, refused: bool) -> None:
    browser.get(f"{odd}#item=it%27s")
    browser.refresh()
    act = "Promise.reject()" if refused else "(window.__copied = text, Promise.resolve())"
    browser.execute_script(
        f"Object.defineProperty(navigator, 'clipboard', {{value: {{writeText: (text) => {act}}}}})"
    )
    press(browser, "Add to review")
    command = "trustescalate label queue 20250304T0915Z-k3f9 --item='it'\"'\"'s'"
    wait(browser, "document.querySelector('.status').textContent !== ''")
    if refused:
        assert browser.execute_script("return document.activeElement.value") == command
        assert browser.execute_script("return getSelection().toString()") == command
    else:
        assert browser.execute_script("return window.__copied") == command
        assert text(browser, ".status") == "Command copied."
    assert shlex.split(command)[-1] == "--item=it's"


def test_marks_and_long_words_stay_in_their_row(browser: webdriver.Chrome, tmp_path: Path) -> None:
    run = factory.run(10)
    odd = ("a" + "\u0301" * 400, "W" * 10_000)
    items = tuple(
        replace(item, id=f"{place}{odd[place % 2]}", prompt=odd[place % 2] * 3, responses=odd)
        for place, item in enumerate(run.items)
    )
    path = tmp_path / "marks.html"
    path.write_text(render_html(build(replace(run, items=items, decisions=())).page()), "utf-8")
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())
    browser.execute_script("document.querySelector('button.id').click()")
    width = browser.execute_script("return document.documentElement.scrollWidth")
    clipped = browser.execute_script(
        "return [...document.querySelectorAll('.clip, .text p')].map(part => getComputedStyle(part).contain)"
    )
    heights = browser.execute_script(
        "return [...document.querySelectorAll('tr.row')].map(row => row.getBoundingClientRect().height)"
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 390
    assert set(clipped) == {"paint"}
    assert max(heights) < 300


def test_the_first_items_are_there_without_javascript(tmp_path: Path, pages: dict[str, str]) -> None:
    driver = start_browser(tmp_path / "profile", javascript=False)
    try:
        driver.get(pages["run"])
        source = driver.find_element(By.TAG_NAME, "main").get_attribute("textContent") or ""
        assert not driver.find_element(By.ID, "items-controls").is_displayed()
        for row in build(factory.run(60)).items[:40]:
            assert visible(row.id) in source
            assert all(block.text in source for block in (*row.prompt, *row.responses[0]))
        assert "of 60 items. With JavaScript this page shows more." in source
        first = driver.find_element(By.CSS_SELECTOR, ".item details")
        first.find_element(By.TAG_NAME, "summary").click()
        assert "Decision trail, tier by tier" in first.text
        assert "Votes of small-7b" in first.text
    finally:
        driver.quit()
