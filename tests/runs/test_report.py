"""Report: one page that shows what a scientist looks for, fetches nothing, and cannot be hurt by names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import discovery_of, run_of

from eqdisc.cli import main
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import simulate
from eqdisc.runs.folder import create_run
from eqdisc.runs.report import write_report
from eqdisc.runs.run import Run
from eqdisc.work.config import FitConfig

EVIL = '<script>document.title="hurt"</script><img src=x onerror=alert(1)>'
LAW = {"S": "-0.06*sqrt(I*S) + 0.01*R", "I": "0.06*sqrt(I*S) - 0.05*I", "R": "0.05*I - 0.01*R"}


def a_run(names: tuple[str, ...] = ("S", "I", "R")) -> Run:
    truth = Equations.parse(LAW, ("S", "I", "R"))
    t = np.linspace(0.0, 200.0, 40)
    x = simulate(truth, np.array([99.0, 1.0, 0.0]), t).x + 0.3 * np.random.default_rng(0).normal(size=(40, 3))
    data = Dataset((Trajectory(t, x, name="0"),), names)
    law = {}
    for name, text in zip(names, LAW.values(), strict=True):
        for old, new in zip("SIR", data.formula_names, strict=True):
            text = re.sub(rf"\b{old}\b", new, text)
        law[name] = text
    return run_of(
        law,
        data,
        initial=[{"trajectory": "0", "x0": dict(zip(names, (99.0, 1.0, 0.0), strict=True))}],
        sigma=dict.fromkeys(names, 0.3),
        parameters=[{"name": "k1", "value": 0.06, "ci": [0.058, 0.0621], "unit": "", "where": "S, I"}],
        invariants=["S + I + R"],
        alternatives=[{"equations": law}],
    )


def test_the_page_holds_everything_and_links_to_nothing() -> None:
    page = write_report(a_run())
    for words in ("<msqrt>", "0.058 to 0.0621", "S + I + R", "What else would fit", "How to cite", "whiteness"):
        assert words.lower() in page.lower(), words
    assert page.count("data:image/svg+xml") == 5
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "url(" not in page
    assert "<script" not in page


def test_names_are_text_and_nothing_else() -> None:
    page = write_report(a_run((EVIL, "I", "{{ 7*7 }}")))
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page


@pytest.mark.parametrize("d", [1, 2, 5])
def test_every_number_of_states_has_its_page(d: int) -> None:
    t = np.linspace(0.0, 5.0, 30)
    x = np.exp(-0.3 * t)[:, None] * np.arange(1.0, d + 1)
    data = Dataset((Trajectory(t, x, name="0"),), tuple("abcde"[:d]))
    page = write_report(run_of({s: f"-0.3*{s}" for s in data.states}, data))
    assert page.count("<math display") == d
    assert 'id="phase"' in page


def test_a_law_that_blows_up_still_has_its_page() -> None:
    t = np.linspace(0.0, 0.9, 30)
    data = Dataset((Trajectory(t, (1 / (1 - t))[:, None], name="0"),), ("x",))
    page = write_report(run_of({"x": "x**2"}, data))
    assert "diverged at t = " in page


def test_the_command_writes_into_the_run_or_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = a_run().data
    create_run(tmp_path / "run", data, FitConfig()).write_discovery(discovery_of(data), None)
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == (tmp_path / "run/report.html").read_text(
        encoding="utf-8"
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or binary is None:
        pytest.skip("no Chromium with its driver here")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,900"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield window
    window.quit()


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (1100, "dark"), (390, "light")])
def test_a_browser_shows_formula_and_plots_without_a_word_of_complaint(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    place = tmp_path / "report.html"
    place.write_text(write_report(a_run((EVIL, "I", "R"))), encoding="utf-8")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(place.as_uri())
    formulas = browser.find_elements("css selector", "#law math")
    assert len(formulas) == 3
    assert all(f.is_displayed() and f.size["height"] > 20 for f in formulas)
    loaded = "return [...document.images].map(i => i.complete && i.naturalWidth > 0 && i.clientWidth > 200)"
    assert browser.execute_script(loaded) == [True] * 5
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert browser.title != "hurt"
    assert browser.get_log("browser") == []
    asked = [e["message"] for e in browser.get_log("performance") if "Network.requestWillBeSent" in e["message"]]
    fetched = {url for e in asked for url in re.findall(r'"request":\{[^{}]*?"url":"(.*?)"', e)}
    assert {u for u in fetched if not u.startswith("data:")} <= {place.as_uri()}
