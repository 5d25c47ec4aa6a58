"""Kernels that start warm: forked from one process that has imported what notebooks import.

Nearly all of a kernel's start is imports (torch, pandas, matplotlib). Here they are done once:
``serve`` imports and waits at a socket. Jupyter starts ``ask``, as kernel.json says, which has a
kernel forked there and lives as long as it.

A kernel ends with the process that asked for it, and the other way round. Without a server, or
where a process with torch in it is not forked safely (macOS, Windows), kernels start as always.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

# Whatever costs a notebook a tenth of a second, and what imports it.
IMPORTS = ("ipykernel.kernelapp", "seaborn", "study.explorer", "study.setup", "torch._dynamo")
# One thread, as Snakemake gives its jobs; pictures as Jupyter shows them.
SET = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}


@contextmanager
def kernels():
    """The environment in which Jupyter starts warm kernels (dict), for as long as this is open."""
    if sys.platform != "linux":
        yield {**os.environ}
        return
    with tempfile.TemporaryDirectory(prefix="pacd-") as folder:
        spec = Path(folder, "kernels", "python3", "kernel.json")
        spec.parent.mkdir(parents=True)
        ask = [sys.executable, "-IS", __file__, "ask", f"{folder}/door", "{connection_file}"]
        spec.write_text(json.dumps({"argv": ask, "display_name": "Python 3", "language": "python"}))
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(f"{folder}/door")
            door.listen(64)
            server = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, "serve", str(door.fileno())],
                stdin=subprocess.PIPE,  # ends with this process, and the server with it
                pass_fds=[door.fileno()],
                start_new_session=True,
                env={**os.environ, **SET},
            )
        elsewhere = os.environ.get("JUPYTER_PATH")
        path = os.pathsep.join([folder, *[elsewhere] * bool(elsewhere)])
        try:
            yield {**os.environ, "JUPYTER_PATH": path}
        finally:
            server.kill()
            server.communicate()


def serve(descriptor):
    """Fork a kernel for each that asks, until standard input ends."""
    for module in IMPORTS:
        importlib.import_module(module)
    from study import explorer, grid

    for profile in explorer.PROFILES:  # every page asks for its runs, which takes a second
        with suppress(grid.SettingsError):
            grid.load(profile)
    gc.freeze()  # what all kernels share stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a kernel
    with socket.socket(fileno=descriptor) as door:
        while door in select.select([door, sys.stdin], [], [])[0]:
            asker, _ = door.accept()
            if not os.fork():
                door.close()
                become_kernel(asker)
            asker.close()
    os._exit(0)


def become_kernel(asker):
    """In the fork: its asker's output, folder and environment; then what a kernel does."""
    _, streams, _, _ = socket.recv_fds(asker, 1, 3)
    for stream, number in zip(streams, range(3), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    asked = json.loads(asker.makefile().readline())
    asker.sendall(f"{os.getpid()}\n".encode())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"], MPLBACKEND=SET["MPLBACKEND"])
    sys.argv = ["ipykernel_launcher", *asked["arguments"]]
    threading.Thread(target=end_with, args=[asker], daemon=True).start()

    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=asked["arguments"], parent_handle=1)
    os._exit(0)  # without the libraries' farewells


def end_with(asker):
    """End this process when its asker has ended."""
    asker.recv(1)
    os._exit(1)


def ask(place, file, *options):
    """Have a kernel for a connection file, pass interrupts on to it, and end with it."""
    arguments = ["-f", file, *options]
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(place)
            request = {"folder": os.getcwd(), "environment": {**os.environ}, "arguments": arguments}
            socket.send_fds(server, [b"\n"], [0, 1, 2])
            server.sendall(json.dumps(request).encode() + b"\n")
            answers = server.makefile()
            kernel = int(answers.readline())
        except (OSError, ValueError):  # the server is gone
            os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *arguments])
        signal.signal(signal.SIGINT, lambda *_: os.kill(kernel, signal.SIGINT))
        answers.read()


if __name__ == "__main__":
    {"serve": lambda number: serve(int(number)), "ask": ask}[sys.argv[1]](*sys.argv[2:])
