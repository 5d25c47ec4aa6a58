"""The built book: links, weight and images by parsing it, and every page in a real browser.

Each check is a function that returns its complaints, so that the last tests can show that it finds
planted faults.
The book is `book/_build/html`, or the folder named by PACD_BOOK.
"""

import os
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browser
import html5lib
import matplotlib.image
import numpy as np
import pytest

BOOK = Path(os.environ.get("PACD_BOOK") or Path(__file__).parents[1] / "book" / "_build" / "html")
PAGE_LIMIT = 1.5e6  # bytes of a page and its own images, without the libraries that pages share
PHONE = 390

built = pytest.mark.skipif(
    not (BOOK / "index.html").exists(), reason=f"no built book in {BOOK}: run `make book` first"
)
in_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


def pages(book):
    return sorted(
        page for page in book.rglob("*.html") if "_static" not in page.relative_to(book).parts
    )


# ---- by parsing ----


@cache
def elements(page):
    """All elements of a page as (tag, attributes, text)."""
    tree = html5lib.parse(page.read_text(encoding="utf-8"), namespaceHTMLElements=False)
    return [
        (node.tag, node.attrib, node.text or "")
        for node in tree.iter()
        if isinstance(node.tag, str)
    ]


def ids(page):
    return [attributes["id"] for _, attributes, _ in elements(page) if attributes.get("id")]


def references(page):
    """(tag, address) of everything a page links to or loads."""
    for tag, attributes, _ in elements(page):
        yield from (
            (tag, attributes[name])
            for name in ("href", "src", "data", "poster")
            if attributes.get(name)
        )
        yield from (
            (tag, part.split()[0])
            for part in attributes.get("srcset", "").split(",")
            if part.strip()
        )


def broken_links(page):
    found = []
    for tag, address in references(page):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        anchor = unquote(parts.fragment)
        if not target.is_file():
            found.append(f"{page.name}: {tag} {address}: no such file")
        elif anchor and target.suffix == ".html" and anchor not in ids(target):
            found.append(f"{page.name}: {tag} {address}: no such anchor")
    return found


def duplicate_ids(page):
    names = ids(page)
    return [
        f"{page.name}: id {name} stands {names.count(name)} times"
        for name in sorted(set(names))
        if names.count(name) > 1
    ]


def images_without_text(page):
    """A file name is no text: a figure has it whose cell sets no ``mystnb: image: alt``."""
    texts = [
        (a.get("src", ""), a.get("alt", "").strip()) for tag, a, _ in elements(page) if tag == "img"
    ]
    return [
        f"{page.name}: {src[:60]}"
        for src, alt in texts
        if not alt or re.search(r"\.(png|svg|jpe?g)$", alt)
    ]


def foreign_assets(page):
    """Scripts, styles, fonts and images from elsewhere; a link that a reader may follow is fine."""
    loads = [address for tag, address in references(page) if tag not in ("a", "form")]
    styles = [text for tag, _, text in elements(page) if tag == "style"]
    styles += [attributes.get("style", "") for _, attributes, _ in elements(page)]
    loads += css_addresses(" ".join(styles))
    return [
        f"{page.name}: {address}"
        for address in loads
        if address.startswith(("http:", "https:", "//"))
    ]


def css_addresses(css):
    return re.findall(r"(?:@import\s+['\"]|url\(\s*['\"]?)([^'\")\s]+)", css)


def weight(page):
    own = {
        (page.parent / unquote(a)).resolve()
        for tag, a in references(page)
        if tag in ("img", "source") and not urlsplit(a).scheme
    }
    return sum(
        path.stat().st_size
        for path in {page, *own}
        if path.is_file() and "_static" not in path.parts
    )


@built
@pytest.mark.parametrize(
    "check", [broken_links, duplicate_ids, images_without_text, foreign_assets]
)
def test_every_page(check):
    faults = "\n".join(line for page in pages(BOOK) for line in check(page))
    assert not faults, faults


@built
def test_style_sheets_load_nothing_foreign():
    sheets = {
        sheet.name: css_addresses(sheet.read_text(encoding="utf-8"))
        for sheet in BOOK.rglob("*.css")
    }
    assert [
        (name, a) for name, found in sheets.items() for a in found if a.startswith(("http", "//"))
    ] == []


@built
def test_pages_are_light():
    assert {page.name: weight(page) for page in pages(BOOK) if weight(page) > PAGE_LIMIT} == {}


UNDOCUMENTED = {"study.bright_digits", "study.coloured_digits"}  # scripts


def test_api_page_names_every_module():
    """But for the pages' own modules, whose functions are what a page shows."""
    root = Path(__file__).parents[1]
    paths = [path for room in ("pacd", "extras", "study") for path in (root / room).rglob("*.py")]
    names = {".".join(path.relative_to(root).with_suffix("").parts) for path in paths}
    pages = {name for name in names if name.startswith("study.numbers.")}
    packages = {name for name in names if name.endswith(".__init__")}
    text = (root / "book" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"automodule:: (\S+)", text)
    assert len(set(listed)) == len(listed)
    assert set(listed) == names - pages - packages - UNDOCUMENTED | {"study.numbers"}


# ---- in a browser ----

RAW_TEX = r"""
const found = [];
const root = document.querySelector('article') || document.body;
const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
const raw = /\\[(\[]|\\begin\{/;
while (walk.nextNode()) {
  const node = walk.currentNode;
  const shown = !node.parentElement.closest('script, style, pre, code, mjx-container');
  if (shown && raw.test(node.data))
    found.push(node.data.trim().slice(0, 60));
}
return found;
"""
COUNT_MATH = """
return ['.math', 'mjx-container'].map(name => document.querySelectorAll(name).length);
"""
MATH_ERRORS = """
const errors = [...document.querySelectorAll('[data-mjx-error]')];
return errors.map(e => e.getAttribute('data-mjx-error'));
"""
TOO_WIDE = """
const wide = document.scrollingElement.scrollWidth - innerWidth;
if (wide <= 0) return [];
const over = e => e.getBoundingClientRect().right > innerWidth + 1;
const found = [...document.querySelectorAll('main *')].filter(over).slice(0, 3);
return found.map(e => `${e.tagName}.${e.getAttribute("class")} (${wide} px over)`)
  .concat(`page is ${wide} px too wide`);
"""
# WCAG 2.1 AA: 4.5 to 1, and 3 to 1 for text of 24 px, or of 18.66 px and bold.
# Text on pictures is not judged; test_pictures_bring_their_own_ground is about these.
FAINT = """
if (!document.getElementById("still")) {  // a colour that fades in would be judged half-way
  const still = document.head.appendChild(document.createElement("style"));
  still.id = "still";
  still.textContent = "* { transition: none !important }";
}
document.documentElement.dataset.theme = arguments[0];
const parse = text => {
  const v = text.match(/[0-9.]+/g).map(Number);
  return v.length < 4 ? [...v, 1] : v;
};
const mix = (top, below, i) => top[3] * top[i] + (1 - top[3]) * below[i];
const over = (top, below) => [0, 1, 2].map(i => mix(top, below, i)).concat(1);
const ground = e => { const c = e ? parse(getComputedStyle(e).backgroundColor) : [255, 255, 255, 1];
  return c[3] === 1 ? c : over(c, ground(e.parentElement)); };
const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
  const v = c[i] / 255;
  return sum + w * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
}, 0);
const visible = {visibilityProperty: true, opacityProperty: true};
const faint = new Map();
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement, style = getComputedStyle(e);
  const size = parseFloat(style.fontSize), ink = e.closest("svg") ? style.fill : style.color;
  if (!walk.currentNode.data.trim() || ink === "none") continue;
  if (e.closest("script, style, noscript, mjx-container svg")) continue;
  if (!e.checkVisibility(visible)) continue;
  const back = ground(e), front = over(parse(ink), back);
  const [a, b] = [light(front), light(back)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const what = `${e.tagName}.${e.getAttribute("class")} ${ink} on ${back.slice(0, 3)}`;
  if (ratio < (large ? 3 : 4.5)) faint.set(what, ratio.toFixed(1));
}
return [...faint].map(([what, ratio]) => `${what}: ${ratio} to 1`);
"""


def browser_faults(driver, base, name):
    """What a reader would see go wrong on one page, at desktop and at phone width."""
    browser.visit(driver, base + name)
    math, typeset = driver.execute_script(COUNT_MATH)
    found = [f"{typeset} of {math} equations typeset"] if typeset < math else []
    found += [f"raw TeX: {text}" for text in driver.execute_script(RAW_TEX)]
    found += [f"TeX error: {text}" for text in driver.execute_script(MATH_ERRORS)]
    for theme in ("dark", "light"):
        faint = driver.execute_script(FAINT, theme)
        found += [f"faint text, {theme}: {text}" for text in faint]
    browser.resize(driver, PHONE)
    found += [f"at {PHONE} px: {text}" for text in driver.execute_script(TOO_WIDE)]
    found += browser.complaints(driver, base)
    return [f"{name}: {text}" for text in found]


def search_results(driver, base, term):
    """Titles that the book's own search finds."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.visit(driver, f"{base}search.html?q={term}")
    # Sphinx rewrites its summary line once the search is over, whether it found anything or not.
    WebDriverWait(driver, 10).until(
        lambda d: d.execute_script(
            "const line = document.querySelector('.search-summary');"
            "return line && /found|did not match/.test(line.textContent)"
        )
    )
    return driver.execute_script(
        "return [...document.querySelectorAll('ul.search li a')].map(a => a.textContent)"
    )


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as driver:
        yield driver


@built
@in_browser
def test_browser_every_page(chromium):
    with browser.served(BOOK) as base:
        names = [page.relative_to(BOOK).as_posix() for page in pages(BOOK)]
        faults = "\n".join(line for name in names for line in browser_faults(chromium, base, name))
    assert not faults, faults


@built
@in_browser
def test_browser_search(chromium):
    with browser.served(BOOK) as base:
        assert search_results(chromium, base, "radius")
        assert not search_results(chromium, base, "qwertzuiop")
        assert browser.complaints(chromium, base) == []


@built
@in_browser
def test_browser_from_disk(chromium):
    """`make book` prints a path, so the book must also work when it is opened as a file."""
    assert browser_faults(chromium, BOOK.resolve().as_uri() + "/", "index.html") == []
    assert search_results(chromium, BOOK.resolve().as_uri() + "/", "radius")


def figure_state(driver):
    """What the theory figure shows: sliders, sentence, and a point of each boundary and circle."""
    return driver.execute_script("""
        const plot = document.getElementById("poison-plot");
        const value = (name) => document.getElementById(`poison-${name}-value`).textContent;
        return {eps: value("eps"), sigma: value("sigma"), rho: value("rho"),
                text: document.getElementById("poison-readout").textContent,
                drawn: plot.data.map((t) => [t.x[0], t.y[0]])};
    """)


@built
@in_browser
@pytest.mark.parametrize("width", [1200, PHONE])
def test_browser_sliders_move_the_theory_figure(chromium, width):
    """By keyboard: every slider changes the figure, and its ACR is the theory's."""

    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    from study import theory_figures as figures

    values = {"eps": figures.EPS, "sigma": figures.SIGMA, "rho": figures.RHO}
    with browser.served(BOOK) as base:
        browser.complaints(chromium, base)  # forget what other tests left on record
        browser.visit(chromium, base + "theory/figures.html", width)
        before = figure_state(chromium)
        for name, keys, at in (
            ("rho", Keys.HOME, 0),
            ("eps", Keys.END, -1),
            ("sigma", Keys.HOME + 3 * Keys.ARROW_RIGHT, 3),
        ):
            chromium.find_element(By.ID, f"poison-{name}").send_keys(keys)
            after = figure_state(chromium)
            assert after[name] == f"{values[name][at]:.2f}" != before[name]
            assert after["drawn"] != before["drawn"] and after["text"] != before["text"]
            before = after
        curve = figures.table()[3, 0, :, -1]
        assert f"{curve[0]:.2f} on clean data, {curve[-1]:.2f} on poisoned data" in after["text"]
        assert browser.complaints(chromium, base) == []


def without_ground(picture):
    """Whether a picture's corners let the page through, or are dark: texts on it may be lost."""
    image = matplotlib.image.imread(picture)
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
    opaque = image.ndim == 2 or image.shape[2] == 3 or (corners[..., 3] == 1).all()
    return not opaque or corners[..., :3].min() < 0.9


@built
def test_pictures_bring_their_own_ground():
    """Figures are drawn for white, which the dark theme only dims."""
    pictures = sorted((BOOK / "_images").glob("*.png"))
    assert pictures and [path.name for path in pictures if without_ground(path)] == []


# ---- the checks can fail ----

PLANTED = r"""<!doctype html><html lang="en"><head><title>x</title><link rel="icon" href="data:,">
<script src="https://cdn.example.org/x.js"></script><style>@import "https://fonts.example.org/f.css";</style></head>
<body><article><h1 id="a">x</h1><p id="a">
<a href="gone.html">gone</a> <a href="#nowhere">nowhere</a>
<a href="https://example.org">fine</a></p><img src="gone.png" alt="gone.png"><img src="data:,">
<span class="math">\(x^2\)</span>
<main><div style="width: 2000px; color: #bbb">wide</div></main>
<style>[data-theme="dark"] h2 { background: #ced6dd; color: #ced6dd; }</style><h2>Head</h2>
<svg><text y="20" fill="#bbb">drawn</text></svg></article>
<script>undefined_function()</script></body></html>"""


@pytest.fixture
def planted(tmp_path):
    page = tmp_path / "planted.html"
    page.write_text(PLANTED)
    return page


def test_parsing_finds_planted_faults(planted):
    assert [line.split(": ")[1] for line in broken_links(planted)] == [
        "a gone.html",
        "a #nowhere",
        "img gone.png",
    ]
    assert len(duplicate_ids(planted)) == 1
    assert len(images_without_text(planted)) == 2
    assert len(foreign_assets(planted)) == 2
    assert weight(planted) == len(PLANTED)


@in_browser
def test_browser_finds_planted_faults(planted, chromium):
    with browser.served(planted.parent) as base:
        faults = "\n".join(browser_faults(chromium, base, planted.name))
    for fault in (
        "0 of 1 equations",
        "raw TeX",
        "faint text, light: DIV",
        "faint text, light: text",
        "faint text, dark: H2",
        "page is",
        "undefined_function",
        "foreign request: https://cdn.example.org",
        "foreign request: https://fonts.example.org",
        "status 404",
        "failed request",
    ):
        assert fault in faults, faults
    assert "faint text, light: H2" not in faults  # what only one theme gets wrong


@pytest.mark.parametrize("ground, lost", [((1, 1, 1, 1), False), ((1, 1, 1, 0), True)])
def test_a_picture_without_ground_is_found(tmp_path, ground, lost):
    matplotlib.image.imsave(tmp_path / "a.png", np.full((4, 4, 4), ground, float))
    assert without_ground(tmp_path / "a.png") == lost
