"""Warm kernels: what one sees of its asker, and that nothing outlives anything."""

import os
import subprocess
import sys
import time

import psutil
import pytest
from jupyter_client import KernelManager

from pacd.data import ROOT
from study import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
PATIENCE = 120


def started(folder, **environment):
    """A kernel, and what runs code in it and returns the text that this prints."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=folder, env={**os.environ, **environment})
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)

    def printed(code):
        said = []

        def heard(message):
            said.append(message["content"].get("text", message["content"].get("ename", "")))

        client.execute_interactive(code, timeout=PATIENCE, output_hook=heard)
        return "".join(said).strip()

    return manager, client, printed


def servers_of(number):
    """The servers of warm kernels that a process has started."""
    alive = psutil.Process(number).children()
    alive = [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    return {child for child in alive if "serve" in child.cmdline()}


def new_server(number, known=frozenset()):
    """The one that it has started since it had the known ones."""
    until = time.monotonic() + PATIENCE
    while not (found := servers_of(number) - known) and time.monotonic() < until:
        time.sleep(0.05)
    (server,) = found
    return server


def gone(number):
    """Whether a process ends before patience does."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if not psutil.pid_exists(number):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def server():
    """The environment of warm kernels, set for this module."""
    with pytest.MonkeyPatch.context() as patch, warm.kernels() as environment:
        patch.setenv("JUPYTER_PATH", environment["JUPYTER_PATH"])
        yield


@pytest.fixture
def kernel(server, tmp_path):
    (tmp_path / "beside.py").write_text("name = 'a module of the asker'")
    manager, client, printed = started(tmp_path, OF_THE_ASKER="yes")
    yield manager, printed
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_kernel_is_warm_and_its_askers_own(kernel, tmp_path):
    _, printed = kernel
    assert printed("import sys; print({'torch', 'study.explorer'} <= {*sys.modules})") == "True"
    assert printed("import os; print(os.getcwd())") == str(tmp_path)
    assert printed("print(os.environ['OF_THE_ASKER'])") == "yes"
    assert printed("import beside; print(beside.name)") == "a module of the asker"
    assert printed("import torch; print(torch.get_num_threads())") == "1"


def test_two_kernels_share_no_state_and_no_luck(kernel, tmp_path):
    _, first = kernel
    manager, client, second = started(tmp_path)
    assert first("kept = 1; print(kept)") == "1"
    assert second("print('kept' in globals())") == "False"
    draw = "import random; print(random.random())"
    assert first(draw) != second(draw)
    client.stop_channels()
    manager.shutdown_kernel()


def test_an_interrupt_reaches_the_kernel(kernel):
    manager, printed = kernel
    asker = manager.provisioner.pid
    code = f"import os, signal, time; os.kill({asker}, signal.SIGINT); time.sleep({PATIENCE})"
    began = time.monotonic()
    assert "KeyboardInterrupt" in printed(code)
    assert time.monotonic() - began < PATIENCE


def test_a_kernel_ends_with_its_asker(server, tmp_path):
    manager, client, printed = started(tmp_path)
    number = int(printed("import os; print(os.getpid())"))
    client.stop_channels()
    assert number != manager.provisioner.pid
    psutil.Process(manager.provisioner.pid).kill()
    assert gone(number)


def test_an_asker_ends_with_its_kernel(server, tmp_path):
    manager, client, printed = started(tmp_path)
    number = int(printed("import os; print(os.getpid())"))
    client.stop_channels()
    psutil.Process(number).kill()
    manager.provisioner.process.wait(PATIENCE)


def test_without_a_server_a_kernel_starts_as_always(tmp_path, monkeypatch):
    known = servers_of(os.getpid())
    with warm.kernels() as environment:
        monkeypatch.setenv("JUPYTER_PATH", environment["JUPYTER_PATH"])
        server = new_server(os.getpid(), known)
        server.kill()
        server.wait(PATIENCE)
        manager, client, printed = started(tmp_path)
        assert printed("import sys; print('torch' in sys.modules)") == "False"
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_the_server_ends_with_the_process_that_wanted_it():
    code = "from study import warm\nwith warm.kernels(): print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    wanted = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    wanted.stdout.readline()
    server = new_server(wanted.pid)
    wanted.kill()
    wanted.wait()
    assert gone(server.pid)
