"""A headless Chromium for the book's tests.

No network but 127.0.0.1, and every request and console line is on record.
"""

import functools
import http.server
import json
import shutil
import tempfile
import threading
from contextlib import contextmanager

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage "
    "--no-first-run --disable-sync --disable-background-networking --disable-component-update "
    "--hide-scrollbars"
).split()


def missing():
    """What a browser test lacks on this machine, as a sentence; empty if nothing."""
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        return "no Chromium: install the packages chromium and chromium-driver"
    return (
        ""
        if shutil.which("chromedriver")
        else "no chromedriver: install the package chromium-driver"
    )


@contextmanager
def chromium():
    """A WebDriver. No host name resolves, so whatever a page asks the network for fails."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        resolve = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        for flag in (*FLAGS, resolve, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        # The path is given so that selenium does not look for a driver to download.
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        driver.set_page_load_timeout(30)
        try:
            yield driver
        finally:
            driver.quit()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder):
    """The address of a local web server that shows ``folder``."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


# Equations are typeset, and figures that follow the width of the window have been drawn again.
SETTLED = """
const math = window.MathJax && MathJax.startup && MathJax.startup.promise;
Promise.resolve(math).then(() => requestAnimationFrame(() => setTimeout(arguments[0], 100)));
"""


def visit(driver, url, width=1200):
    """Open a page at a window width and wait until it has settled."""
    driver.get(url)
    resize(driver, width)


def resize(driver, width, height=900):
    """Set the width of the page in CSS pixels, and wait until it has settled."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_async_script(SETTLED)


def complaints(driver, base):
    """Console errors, and failed and foreign requests under ``base``, since the last call."""
    found = [
        f"console: {line['message']}"
        for line in driver.get_log("browser")
        if line["level"] == "SEVERE"
    ]
    requests = {}  # only of our pages: the browser's own first tab asks for things too
    for line in driver.get_log("performance"):
        event = json.loads(line["message"])["message"]
        method, params = event["method"], event["params"]
        if method == "Network.requestWillBeSent" and params["documentURL"].startswith(base):
            url = requests[params["requestId"]] = params["request"]["url"]
            if not url.startswith((base, "data:", "blob:")):
                found.append(f"foreign request: {url}")
        elif params.get("requestId") not in requests:
            continue
        elif method == "Network.responseReceived" and params["response"]["status"] >= 400:
            found.append(f"status {params['response']['status']}: {params['response']['url']}")
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            found.append(f"failed request: {requests[params['requestId']]}: {params['errorText']}")
    return found
