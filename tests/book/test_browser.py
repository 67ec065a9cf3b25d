"""The pages in a browser without a network: formulas, images, console, a phone's width, both themes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

PHONE = {"width": 390, "height": 800}
DESK = {"width": 1280, "height": 900}

# every visible text: its colour against the first opaque ground below it (WCAG 2 contrast ratio)
CONTRAST = """() => {
  const parse = (text) => {
    const n = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [n[0] * scale, n[1] * scale, n[2] * scale, n[3] ?? 1];
  };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] > 0) layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const low = new Map();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode()); ) {
    const e = node.parentElement;
    if (!node.textContent.trim() || !e.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true })) continue;
    if (e.closest("script, style, svg, mjx-assistive-mml, [aria-hidden=true]")) continue;
    const box = e.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const style = getComputedStyle(e), under = ground(e), size = parseFloat(style.fontSize);
    const ink = parse(style.color);
    for (let up = e; up; up = up.parentElement) ink[3] *= getComputedStyle(up).opacity;
    const [a, b] = [light(over(ink, under)), light(under)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), large = size >= 24 || (size >= 18.7 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) {
      const key = `${e.tagName.toLowerCase()}.${e.className}`;
      if (!low.has(key)) low.set(key, `${key} ${ratio.toFixed(2)} '${node.textContent.trim().slice(0, 40)}'`);
    }
  }
  return [...low.values()];
}"""


@pytest.fixture(scope="session")
def browser(missing) -> Iterator:
    """Debian's chromium, driven by playwright."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing("chromium is not installed, the pages are not looked at")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Visit:
    """One page, opened without a network: what it asked for, what it said, and the page itself."""

    def __init__(self, browser, site, name, viewport=DESK, scheme="light"):
        self.requests, self.said = [], []
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.context.set_default_timeout(180_000)  # of milliseconds: a loaded machine typesets formulas slowly
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message) if message.type != "log" else None)
        self.page.on("pageerror", lambda error: self.said.append(error))
        self.page.goto((site / name).as_uri())
        self.page.evaluate("() => MathJax.startup.promise.then(() => true)")

    def _route(self, route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


def test_formulas_images_console_and_network(site, browser, name):
    with Visit(browser, site, name) as visit:
        page = visit.page
        page.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")  # lazy images load
        page.wait_for_function("() => [...document.images].every((image) => image.complete)")
        bare = page.evaluate(
            """() => [...document.querySelectorAll('.math')]
              .filter((e) => !e.querySelector('mjx-container')).map((e) => e.outerHTML)"""
        )
        assert bare == [], "formulas that were not rendered"
        wrong = "mjx-merror, mjx-mtext[style*='red']"  # an unknown macro is printed in red
        assert page.eval_on_selector_all(wrong, "all => all.map((e) => e.textContent)") == []
        images = page.eval_on_selector_all(
            "img", "all => all.map((e) => [e.src, e.complete && e.naturalWidth > 0, e.alt.trim()])"
        )
        assert [image for image in images if not image[1]] == [], "images that did not load"
        assert [image for image in images if not image[2]] == [], "images without alt text"
        assert visit.requests == [] and visit.said == []


def test_nothing_is_wider_than_a_phone(site, browser, name):
    with Visit(browser, site, name, viewport=PHONE) as visit:
        widths = visit.page.evaluate("() => [document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(widths) <= PHONE["width"]
        outside = visit.page.evaluate(
            """(width) => [...document.querySelectorAll('.bd-article *')].filter((e) => {
              if (!e.checkVisibility() || e.closest('mjx-container')) return false;
              for (let up = e; up; up = up.parentElement)
                if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(up).overflowX)) return false;
              return e.getBoundingClientRect().right > width + 1;
            }).map((e) => e.outerHTML.slice(0, 120))""",
            PHONE["width"],
        )
        assert outside == [], "cut off, and no box to scroll them in"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(site, browser, name, scheme):
    with Visit(browser, site, name, scheme=scheme) as visit:
        assert visit.page.evaluate("() => document.documentElement.dataset.theme") == scheme
        visit.page.add_style_tag(content="* { transition: none !important }")  # or a fading colour is measured
        visit.page.evaluate("() => document.querySelectorAll('details').forEach((e) => (e.open = true))")
        assert visit.page.evaluate(CONTRAST) == []


SHOWN = """() => [...document.querySelectorAll('.scorecard tr[data-verdict]')]
  .filter((e) => e.checkVisibility()).map((e) => e.dataset.verdict)"""


def test_the_scorecard_can_be_filtered_by_verdict(site, browser):
    with Visit(browser, site, "book/scorecard.html") as visit:
        everything = visit.page.evaluate(SHOWN)
        wanted = max(set(everything), key=everything.count)
        assert len(set(everything)) > 1
        for button in visit.page.locator(f".verdict-filter button[data-verdict='{wanted}']").all():
            button.click()
        shown = visit.page.evaluate(SHOWN)
        assert shown.count(wanted) == everything.count(wanted) and len(shown) < len(everything)
        for button in visit.page.locator(".verdict-filter button[data-verdict='']").all():
            button.click()
        assert visit.page.evaluate(SHOWN) == everything


def test_a_link_into_a_folded_part_opens_it_and_what_it_lies_in(site, browser):
    with Visit(browser, site, "book/scorecard.html") as visit:
        page = visit.page
        page.evaluate(
            """() => {
              const box = document.createElement('div');
              box.innerHTML = `<details id="outer"><summary>a</summary><details><summary>b</summary>
                <p id="deep">c</p></details></details><details id="claim-place"><summary>d</summary>e</details>
                <p id="place">f</p>`;
              document.querySelector('.bd-article').append(box);
            }"""
        )
        assert not page.locator("#deep").is_visible()
        page.evaluate("() => (location.hash = '#deep')")
        page.wait_for_function("() => document.getElementById('deep').checkVisibility()")
        page.evaluate("() => (location.hash = '#place')")
        page.wait_for_function("() => document.getElementById('claim-place').open")


def test_everything_is_unfolded_for_print_and_folded_again_after_it(site, browser):
    with Visit(browser, site, "book/scorecard.html") as visit:
        shut = "() => document.querySelectorAll('details:not([open])').length"
        before = visit.page.evaluate(shut)
        assert before
        visit.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        assert visit.page.evaluate(shut) == 0
        visit.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
        assert visit.page.evaluate(shut) == before


def test_print_cuts_no_code_and_leaves_folded_code_out(site, browser):
    with Visit(browser, site, "chapters/ntk/ntk.html") as visit:
        page = visit.page
        page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 700, "height": 1000})
        cut = """() => [...document.querySelectorAll('.bd-article pre')]
            .filter((e) => e.scrollWidth > e.clientWidth + 1).length"""
        assert page.locator(".bd-article pre").count() > 10 and page.evaluate(cut) == 0
        assert page.locator("details.hide.above-input").count() > 3
        assert not page.locator("details.hide.above-input").first.is_visible()
        assert page.locator("details.claim table").first.is_visible()
        faded = "() => getComputedStyle(document.querySelector('details.claim > *:not(summary)')).animationName"
        assert page.evaluate(faded) == "none"
