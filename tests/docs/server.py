"""Runs `puriflow`, `snakemake` and `python` without importing torch anew for each call.

    python server.py serve SOCKET    listens, and runs every call in a fork of its own
    python server.py puriflow ...    has this call run there, and exits as it does

A call is its words, folder and environment, with the caller's standard streams.
"""

import json
import os
import runpy
import signal
import socket
import sys

SOCKET = "PURIFLOW_TEST_SERVER"


def call(words: list[str]) -> int:
    """Have a command run by the server; its exit status."""
    what = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[SOCKET])
        socket.send_fds(server, [b" "], [0, 1, 2])
        server.sendall(json.dumps(what).encode())
        server.shutdown(socket.SHUT_WR)
        return (server.recv(1) or b"\1")[0]


def serve(path: str) -> None:
    """Answer calls until the end of the process."""
    import pandas  # noqa: F401, slow to import and needed by most commands, as all of these
    import snakemake.cli
    import zarr  # noqa: F401

    import puriflow.classifiers.efficientnet_lite0  # and torch with it
    import puriflow.cli

    mains = {"puriflow": puriflow.cli.main, "snakemake": snakemake.cli.main, "python": python}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            caller, _ = listening.accept()
            with caller:
                if os.fork() == 0:
                    listening.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    caller.sendall(bytes([answer(caller, mains)]))
                    os._exit(0)


def answer(caller: socket.socket, mains: dict) -> int:
    """Run a call in the caller's place; its exit status."""
    _, streams, _, _ = socket.recv_fds(caller, 1, 3)
    with caller.makefile("rb") as file:
        what = json.load(file)
    for own, given in enumerate(streams):
        os.dup2(given, own)
    # Python's own streams remember whether they could seek.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    os.chdir(what["folder"])
    os.environ.clear()
    os.environ.update(what["environment"])
    sys.argv = what["words"]
    try:
        mains[sys.argv[0]]()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def python() -> None:
    """`python FILE`, or `python -c TEXT`."""
    sys.path[0] = os.getcwd()
    if sys.argv[1] == "-c":
        exec(sys.argv[2], {"__name__": "__main__"})
    else:
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[1:]))
