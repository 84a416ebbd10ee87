"""Chromium without a screen, and the marks of tests that drive it.

With TRUSTESCALATE_BROWSER=required a missing browser fails these tests; otherwise it skips them.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REQUIRED = os.environ.get("TRUSTESCALATE_BROWSER") == "required"
MISSING = CHROMIUM is None or DRIVER is None
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(MISSING and not REQUIRED, reason="no chromium with its chromedriver here"),
]


def serious_barriers(browser: webdriver.Chrome) -> list[str]:
    """What axe-core finds on the open page that keeps somebody out: serious or critical, in both schemes.

    `make` installs axe-core into the environment with npm.
    """
    script = Path(sys.prefix) / "axe/node_modules/axe-core/axe.min.js"
    if not script.exists() and not REQUIRED:
        pytest.skip("axe-core is not installed: npm install --prefix .venv/axe axe-core")
    browser.set_script_timeout(60)
    barriers = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.execute_script(script.read_text("utf-8"))
        barriers += browser.execute_async_script(
            "const done = arguments[0], bad = ['serious', 'critical'];"
            "axe.run(document).then(result => done(result.violations"
            ".filter(rule => bad.includes(rule.impact))"
            ".map(rule => `${rule.id}: ${rule.nodes[0].html.slice(0, 200)}`)));"
        )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    return barriers


def start_browser(profile: Path, *, javascript: bool = True) -> webdriver.Chrome:
    """A browser with a fresh profile that logs its console and its requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if not javascript:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    return webdriver.Chrome(options=options, service=Service(str(DRIVER)))
