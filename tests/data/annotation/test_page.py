"""The page in a real browser: labelled by keyboard, blind, resumed after a kill, hostile texts inert."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import ALIVE
from tests.support.projects import write_project
from trustescalate.analysis.queues import queue_calibration
from trustescalate.data.annotation.answers import SKIP_REASONS, read_answers, standing
from trustescalate.data.annotation.collect import collect_answers
from trustescalate.data.annotation.queue import Queue, open_queue
from trustescalate.data.dataset import load_dataset
from trustescalate.project import Project
from trustescalate.records.progress import Hooks

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browser import MARKS, serious_barriers, start_browser

Serve = Callable[[Path], tuple[str, "subprocess.Popen[str]"]]
pytestmark = MARKS
LISTEN = (
    "window.__violations = [];"
    "document.addEventListener('securitypolicyviolation',"
    " event => { window.__violations.push(event.violatedDirective); });"
    "window.alert = () => { window.__pwned = 'alert'; };"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})
    yield driver
    driver.quit()


class Page:
    """A person at the page. `busy` counts what the page has finished; a key is pressed once it is ready."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        browser.get(url)
        self.wait(1)

    @property
    def ready(self) -> int:
        return int(self.browser.execute_script("return document.body.dataset.ready || '0'"))

    def wait(self, count: int) -> None:
        WebDriverWait(self.browser, 20, 0.02).until(lambda _: self.ready >= count)

    def enter(self, name: str) -> None:
        count = self.ready
        self.browser.find_element(By.ID, "name").send_keys(name, Keys.ENTER)
        self.wait(count + 1)

    def press(self, *keys: str) -> None:
        for key in keys:
            count = self.ready
            self.browser.find_element(By.TAG_NAME, "body").send_keys(key)
            self.wait(count + 1)

    def text(self, selector: str) -> str:
        found: str = self.browser.execute_script(
            "return document.querySelector(arguments[0]).textContent", selector
        )
        return found

    def shown(self) -> tuple[str, ...]:
        script = (
            "return [...document.querySelectorAll('#prompt .text, #responses .text')].map(n => n.textContent)"
        )
        return tuple(self.browser.execute_script(script))

    def click(self, selector: str) -> None:
        count = self.ready
        self.browser.find_element(By.CSS_SELECTOR, selector).click()
        self.wait(count + 1)

    def visible(self, identity: str) -> bool:
        return self.browser.find_element(By.ID, identity).is_displayed()


def queued(folder: Path, rows: int, **more: Any) -> tuple[Path, Queue]:
    config = write_project(folder, **more)
    queue_calibration(Project.open(config).config, Hooks(), rows)
    return config, open_queue(Project.open(config).config)


def said(queue: Queue, who: str) -> dict[int, str | None]:
    place = {row.item_id: n for n, row in enumerate(queue.asked)}
    kept = standing(read_answers(queue.folder / "answers.jsonl"))
    return {place[item_id]: row.answer for (name, item_id), row in kept.items() if name == who}


MEANS = {"1": "first", "a": "first", "2": "second", "b": "second", "0": "tie", "t": "tie", "s": "skip"}


def test_twenty_items_with_the_keyboard_through_a_kill(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    """All keys, the server killed after the ninth answer, and every answer back in the items' frame."""
    config, queue = queued(tmp_path, 20)
    keys = "12ab0ts1221b0a12ts2B"
    pressed = [(key, "1") if key == "s" else (key,) for key in keys]
    url, process = serve(config)
    page = Page(browser, url)
    page.enter("ann")
    for place in range(9):
        row = queue.asked[place]
        assert page.shown() == (row.prompt, *row.responses)
        assert page.text("#place") == f"Item {place + 1} of 20"
        assert page.text("#count") == f"{place} of 20 answered"
        page.press(*pressed[place])
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert said(queue, "ann") == {n: MEANS[key] for n, key in enumerate(keys[:9])}
    page.press("1")
    assert "Item 10 is not saved (Response 1). The server cannot be reached" in page.text("#error")
    assert page.visible("error")

    page = Page(browser, serve(config)[0])
    assert "9 of 20" in page.text("#people-names")
    page.click("#people-names button")
    assert page.shown()[0] == queue.asked[9].prompt
    page.press(*(key for keys in pressed[9:] for key in keys))
    assert page.visible("done")
    assert page.text("#done-count") == "20 items, 2 of them skipped"
    assert said(queue, "ann") == {n: MEANS[key.lower()] for n, key in enumerate(keys)}
    assert all(row.seconds is not None for row in read_answers(queue.folder / "answers.jsonl"))

    found = collect_answers(Project.open(config).config)
    assert (found.added, found.skips, found.ties) == (20, 2, 4)
    assert found.skip_reasons == {SKIP_REASONS[0]: 2}
    data = load_dataset(Project.open(config).config)
    labels = {note.item_id: note.label for note in data.annotations if note.annotator == "ann"}
    items = {item.id: item for item in data.items}
    for place, key in enumerate(keys.lower()):
        row, label = queue.asked[place], labels[queue.asked[place].item_id]
        if MEANS[key] in ("tie", "skip"):
            assert label == MEANS[key]
        else:
            chosen = row.responses[MEANS[key] == "second"]
            assert items[row.item_id].responses["AB".index(label)] == chosen


def test_undo_arrows_and_a_changed_mind(tmp_path: Path, serve: Serve, browser: webdriver.Chrome) -> None:
    config, queue = queued(tmp_path, 4)
    page = Page(browser, serve(config)[0])
    page.enter("ann")
    page.press("1", "2", "u")
    assert said(queue, "ann") == {0: "first"}
    assert page.text("#status") == "Withdrawn from item 2: Response 2"
    assert page.shown()[0] == queue.asked[1].prompt
    page.press("t", Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert page.shown()[0] == queue.asked[0].prompt
    pressed = "#answers button[aria-pressed=true]"
    assert browser.find_element(By.CSS_SELECTOR, pressed).get_attribute("data-answer") == "first"
    page.press("2")
    assert said(queue, "ann") == {1: "tie", 0: "second"}
    page.press(Keys.ARROW_RIGHT)
    assert page.shown()[0] == queue.asked[2].prompt
    page.press(Keys.ARROW_RIGHT)
    assert page.shown()[0] == queue.asked[2].prompt, "a row without an answer was passed"
    page.press("1", "1")
    assert page.visible("done")
    page.press("u")
    assert page.visible("desk")
    assert said(queue, "ann") == {1: "tie", 0: "second", 2: "first"}
    page.browser.find_element(By.TAG_NAME, "body").send_keys("x", "9", "q")
    assert said(queue, "ann") == {1: "tie", 0: "second", 2: "first"}


def test_two_people_label_blind_and_see_agreement_in_the_end(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    config, queue = queued(tmp_path, 4)
    url, _ = serve(config)
    page = Page(browser, url)
    page.enter("ann")
    page.press("1", "2", "t", "s", "2")
    assert not page.visible("agreement")
    page = Page(browser, url)
    page.enter("  bob ")
    assert browser.find_elements(By.CSS_SELECTOR, "[aria-pressed=true], .chosen") == []
    page.press("1", "2", "1")
    assert page.visible("desk")
    assert not page.visible("agreement")
    page.press("1")
    assert page.visible("agreement")
    assert page.text("#pairs td") == "ann and bob"
    assert "2 (67 %)" in page.text("#pairs")
    assert said(queue, "bob") == {0: "first", 1: "second", 2: "first", 3: "first"}
    assert collect_answers(Project.open(config).config).annotators == 2


def test_hostile_texts_are_texts(tmp_path: Path, serve: Serve, browser: webdriver.Chrome) -> None:
    def hostile(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for n, item in enumerate(items):
            item.pop("group", None)
            item["prompt"] = f"{ALIVE[n % len(ALIVE)]} {n}"
            item["responses"] = [f"{ALIVE[(n + k) % len(ALIVE)]} {k} {n}" for k in (1, 2)]
            item["id"] = f"<img src=x onerror=alert(1)> {item['id']}"
        for note in notes:
            note["item_id"] = f"<img src=x onerror=alert(1)> {note['item_id']}"

    config, queue = queued(tmp_path, 24, change=hostile, unlabelled=30)
    browser.get_log("browser")
    browser.get_log("performance")
    url, _ = serve(config)
    page = Page(browser, url)
    page.enter("<img src=x onerror=alert(1)>")
    page.press("=")
    formatted = 0
    for row in queue.asked:
        if raw := page.visible("raw"):
            page.press("/")
        assert page.shown() == (row.prompt, *row.responses)
        if raw:
            page.press("/")
        formatted += raw
        page.press("1")
    assert formatted, "no hostile text has Markdown"
    assert page.visible("done")
    page = Page(browser, url)
    assert "<img src=x" in page.text("#people-names")
    assert browser.execute_script("return typeof window.__pwned") == "undefined"
    assert browser.execute_script("return window.__violations") == []
    injected = "iframe, svg, object, img, main script, [onerror], [onload]"
    assert browser.find_elements(By.CSS_SELECTOR, injected) == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        each["params"]["request"]["url"] for each in asked if each["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert all(each.startswith((url, "data:")) for each in urls)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome, width: int
) -> None:
    def long(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for n, item in enumerate(items):
            item["responses"] = ["w" * 500 + str(n), "line\n" * 80 + str(n)]

    config, _ = queued(tmp_path, 2, change=long)
    size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page = Page(browser, serve(config)[0])
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        page.enter("somebody with quite a long name, so that the head of the page is full")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        tops = browser.execute_script(
            "return [...document.querySelectorAll('.response')].map(n => n.getBoundingClientRect().top)"
        )
        assert (tops[0] == tops[1]) == (width > 736), (
            "side by side where there is room, else one below another"
        )
        answers = browser.find_element(By.ID, "answers").rect
        assert answers["y"] + answers["height"] <= 700, "the answers are not in sight"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize(
    ("task", "labels", "keys", "wanted"),
    [
        ('kind = "binary"\nquestion = "Fine?"', ("pass", "fail"), "pf", ("pass", "fail")),
        ('kind = "rating"\nquestion = "How good?"\nscale = [1, 5]', ("1", "5"), "35", ("3", "5")),
        (
            'kind = "choice"\nquestion = "What is it?"\nlabels = ["safe", "unsafe", "no idea"]',
            ("safe", "unsafe"),
            "1n",
            ("safe", "no idea"),
        ),
    ],
)
def test_one_response_at_a_time(
    tmp_path: Path,
    serve: Serve,
    browser: webdriver.Chrome,
    task: str,
    labels: tuple[str, str],
    keys: str,
    wanted: tuple[str, str],
) -> None:
    def single(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for item in items:
            item["responses"] = item["responses"][:1]
            item["reference"] = "the reference"
        for n, note in enumerate(notes):
            note["label"] = labels[n % 2]

    config, queue = queued(tmp_path, 2, change=single, more=f"[task]\n{task}\n")
    page = Page(browser, serve(config)[0])
    page.enter("ann")
    assert page.shown()[1:] == queue.asked[0].responses
    assert page.text("#reference") == "the reference"
    page.press(*keys)
    assert page.visible("done")
    assert said(queue, "ann") == dict(enumerate(wanted))


ANSWER = """## Steps

Sort *first*, see [the docs](http://evil.example/a "title").

```python
values = sorted(values)
    # indented
```

3. three
4. <b onclick=alert(1)>four</b> ![a picture](http://evil.example/x.png)
"""


def written(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
    """Responses in Markdown that differ in one word."""
    for n, item in enumerate(items):
        item["responses"] = [ANSWER + str(n), ANSWER.replace("first", "last") + str(n)]


RUBRIC = "[task]\nrubric = 'A **good** answer.'\ncriteria = ['It is short.']\n"


def test_markdown_is_formatted_without_a_link_or_an_image(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    config, _ = queued(tmp_path, 2, change=written, more=RUBRIC)
    browser.get_log("performance")
    page = Page(browser, serve(config)[0])
    page.enter("ann")
    assert page.text("#rubric strong") == "good"
    assert page.text("#criteria li") == "It is short."
    assert page.text("#responses pre") == "values = sorted(values)\n    # indented\n"
    assert page.text("#responses [role=heading]") == "Steps"
    assert browser.execute_script("return document.querySelector('#responses li').value") == 3
    response = page.text("#responses .text")
    assert 'the docs (http://evil.example/a "title")' in response
    assert "<b onclick=alert(1)>four</b> [image: a picture (http://evil.example/x.png)]" in response
    assert browser.find_elements(By.CSS_SELECTOR, "#item a, #item img, #item b, #item [onclick]") == []
    page.press("/")
    assert page.text("#responses .text").startswith("## Steps\n\nSort *first*")
    page.press("/", "=")
    marked = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#responses mark")]
    assert sorted(marked) == ["first", "last"]
    assert "only in response 1 (1) or only in response 2 (1)" in page.text("#compared")
    page.press("1")
    assert "evil.example/" not in "".join(
        json.loads(entry["message"])["message"]["params"].get("request", {}).get("url", "")
        for entry in browser.get_log("performance")
    )


def test_a_skip_has_a_reason_and_its_draft_survives_a_reload(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    config, queue = queued(tmp_path, 3)
    page = Page(browser, serve(config)[0])
    page.enter("Ann Lee")
    page.press("2", "s")
    assert said(queue, "Ann Lee") == {0: "second"}, "a skip waits for its reason"
    browser.find_element(By.ID, "reason").send_keys("u1 <b>")
    drafts = queue.folder / "drafts.json"
    WebDriverWait(browser, 5, 0.02).until(lambda _: drafts.exists() and "u1 <b>" in drafts.read_text())
    browser.refresh()
    page.wait(1)
    assert page.text("#place") == "Item 2 of 3", "the address names the annotator, and the server the item"
    page.press("s")
    field = browser.find_element(By.ID, "reason")
    assert field.get_attribute("value") == "u1 <b>"
    count = page.ready
    field.send_keys(Keys.ENTER)
    page.wait(count + 1)
    rows = read_answers(queue.folder / "answers.jsonl")
    assert [(row.answer, row.reason) for row in rows] == [("second", None), ("skip", "u1 <b>")]
    assert drafts.read_text() == "{}"
    page.press(Keys.ARROW_LEFT)
    assert page.text("#place") == "Item 2 of 3 · skipped: u1 <b>"
    page.press("u")
    assert "Withdrawn from item 2" in page.text("#status")
    assert said(queue, "Ann Lee") == {0: "second"}


def test_shortcuts_are_listed_long_texts_folded_and_a_lost_answer_sent_again(
    tmp_path: Path, serve: Serve, browser: webdriver.Chrome
) -> None:
    def long(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for n, item in enumerate(items):
            item["responses"] = [f"{k} {k}\n" * 3501 + str(n) for k in ("one", "two")]

    config, queue = queued(tmp_path, 2, change=long)
    page = Page(browser, serve(config)[0])
    page.enter("ann")
    boxes = browser.find_elements(By.CSS_SELECTOR, "#responses .folded")
    assert len(boxes) == 2
    page.press(".")
    assert browser.find_elements(By.CSS_SELECTOR, "#responses .folded") == []
    page.press(".")
    browser.find_element(By.CSS_SELECTOR, "#responses .more").send_keys(Keys.ENTER)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#responses .folded")) == 1
    page.press("=")
    assert page.text("#compared") == "Too long to compare: 7,003 and 7,003 words."
    page.press("?")
    assert {"1A", "2B", "0T", "S", "U", "=", "/", ".", "?"} <= {
        each.text.replace("\n", "").replace(" ", "")
        for each in browser.find_elements(By.CSS_SELECTOR, "#keys-list dt")
    }
    page.browser.find_element(By.TAG_NAME, "body").send_keys("1", "?")
    assert said(queue, "ann") == {}, "a key was an answer behind the list"
    browser.execute_script("window.kept = window.fetch; window.fetch = () => Promise.reject(new Error());")
    page.press("1")
    assert "Item 1 is not saved (Response 1)" in page.text("#error")
    browser.execute_script("window.fetch = window.kept")
    page.click("#retry")
    assert not page.visible("error")
    assert said(queue, "ann") == {0: "first"}


def test_no_barrier_is_serious(tmp_path: Path, serve: Serve, browser: webdriver.Chrome) -> None:
    config, _ = queued(tmp_path, 1, change=written, more=RUBRIC)
    page = Page(browser, serve(config)[0])
    barriers = {"begin": serious_barriers(browser)}
    page.enter("ann")
    page.press("=")
    barriers["item"] = serious_barriers(browser)
    for name, key in (("keys", "?"), ("skip", "s")):
        page.press(key)
        barriers[name] = serious_barriers(browser)
        browser.find_element(By.ID, name).send_keys(Keys.ESCAPE)
    page.press("1")
    assert page.visible("done")
    barriers["done"] = serious_barriers(browser)
    assert not any(barriers.values()), barriers
