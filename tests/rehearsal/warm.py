"""A `puriflow` command that starts at once: a process that has imported everything forks for it.

A job of Snakemake imports torch for seconds before it begins, and a rehearsal has hundreds of jobs.
"""

import importlib
import json
import os
import pkgutil
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tiny_parts import build_tiny

LATE = ("captum.attr", "matplotlib.pyplot", "robustbench.model_zoo.models", "timm")
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    sys.exit(int(server.makefile().readline()))
"""


@contextmanager
def warm_puriflow(cifar10_md5: str) -> Generator[Path]:
    """A folder for PATH with the command in it, to which CIFAR-10's test file has another md5."""
    folder = Path(tempfile.mkdtemp())  # a socket's path must be short
    address, client = folder / "socket", folder / "puriflow"
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(0o755)
    command = [sys.executable, __file__, str(address), cifar10_md5]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    # OpenMP's threads, once begun, would not be there behind a fork
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield folder
        finally:
            server.terminate()
            shutil.rmtree(folder)


def serve(address: str, cifar10_md5: str) -> None:
    """Answer calls until this process is ended."""
    import puriflow.classifiers.torchvision_import  # before torchvision

    # isort: split
    from torchvision.datasets import CIFAR10

    CIFAR10.test_list = [["test_batch", cifar10_md5]]
    for module in pkgutil.walk_packages(puriflow.__path__, "puriflow."):
        importlib.import_module(module.name)
    build_tiny("classifiers", "robustbench")  # which imports RobustBench as it has to be
    for name in LATE:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                answer(connection)
            connection.close()


def answer(connection: socket.socket) -> None:
    """Run the command that a client was called with, in its place; the process ends with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    sys.argv, folder, environment = json.loads(connection.makefile().readline())
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    status = 1
    try:
        from puriflow.cli import main

        main()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(f"{status}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    serve(*sys.argv[1:])
