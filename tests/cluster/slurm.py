"""A real Slurm of one node with two GPUs that are none, on this machine and for itself alone.

    python tests/cluster/slurm.py FOLDER    # runs until SIGTERM; then: . FOLDER/env.sh

Its ports are free ones, and all that it writes is below its folder, so that it disturbs no other
Slurm. It needs root and the programs; `make test` installs them where it may.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import reaper

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun", "scancel", "sinfo")
GPUS = 2

CONF = """
ClusterName=puriflow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
PropagateResourceLimits=NONE
ReturnToService=2
KillWait=1
MailProg=/bin/true
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=2-0 State=UP DefMemPerCPU=100
"""


def missing() -> str | None:
    """Why Slurm cannot be started here; None if it can."""
    if os.geteuid() != 0:
        return "only root starts Slurm's daemons"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"Slurm is not installed: no {', '.join(absent)}" if absent else None


class Slurm:
    """The daemons, as a context. They are children of this process, and end with it.

    Attributes:
        environment: with which Slurm's commands find it.
    """

    def __init__(self, folder: Path):
        self.folder, self.host = folder.absolute(), socket.gethostname().partition(".")[0]
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        self.own = {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": path}
        self.environment = {**os.environ, **self.own}
        self._daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Slurm":
        try:
            self._prepare()
            files = {"socket": "socket", "key-file": "key", "seed-file": "seed", "pid-file": "pid"}
            places = [f"--{option}={self.folder}/munge/{name}" for option, name in files.items()]
            self.start("munged", "--foreground", "--force", *places)
            self.wait("socket", "sh", "-c", f"test -S {self.folder}/munge/socket && echo socket")
            self.start("slurmctld", "-D", "-c")
            self.start_node()
            self.wait("idle", "sinfo", "--noheader", "--format=%T")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all jobs, whose steps would outlive the daemons, and then these."""
        if "slurmctld" in self._daemons:
            with suppress(AssertionError, subprocess.TimeoutExpired):
                self.call("scancel", "--user=root")
                self.wait("", "squeue", "--noheader", seconds=10)
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()

    def start_node(self) -> None:
        """Start slurmd, as the system does again when it has died."""
        self.start("slurmd", "-D", "-N", self.host)

    def start(self, daemon: str, *options: str) -> None:
        """Start a daemon, whose words go to a file of its name."""
        with (self.folder / f"{daemon}.log").open("a") as log:
            self._daemons[daemon] = subprocess.Popen(
                [sys.executable, reaper.__file__, daemon, *options],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=reaper.end_with_parent,
            )

    def kill(self, daemon: str) -> None:
        """End a daemon at once; what it runs goes on."""
        for process in psutil.Process(self._daemons[daemon].pid).children():
            if process.name() == daemon:
                process.kill()

    def call(self, *command: str) -> str:
        """What a command of Slurm says."""
        ended = self._run(*command)
        assert ended.returncode == 0, f"{command}: {ended.stdout}{self._logs()}"
        return ended.stdout.strip()

    def wait(self, wanted: str, *command: str, seconds: float = 60) -> None:
        """Wait until a command says what is wanted."""
        end = time.monotonic() + seconds
        while (ended := self._run(*command)).returncode or ended.stdout.strip() != wanted:
            assert time.monotonic() < end, f"{command} says {ended.stdout}{self._logs()}"
            time.sleep(0.2)

    def _run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )

    def _prepare(self) -> None:
        """All files; the GPUs are devices, as of files Slurm sets no CUDA_VISIBLE_DEVICES."""
        for name in ("munge", "state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o700)
        (self.folder / "munge" / "key").write_bytes(os.urandom(128))
        (self.folder / "munge" / "key").chmod(0o600)
        for i in range(GPUS):
            os.mknod(self.folder / f"gpu{i}", 0o020666, os.makedev(1, 3))  # another /dev/null
        places = {"folder": self.folder, "host": self.host, "gpus": GPUS}
        places |= dict(zip(("controller", "daemon"), free_ports(2), strict=True))
        (self.folder / "slurm.conf").write_text(CONF.format(**places))
        devices = f"{self.folder}/gpu[0-{GPUS - 1}]"
        (self.folder / "gres.conf").write_text(
            f"AutoDetect=off\nNodeName={self.host} Name=gpu File={devices}\n"
        )
        # Of SLURM_CONF the plugin tells its inner srun nothing; elsewhere that is in /etc/slurm.
        srun = self.folder / "bin" / "srun"
        conf = self.own["SLURM_CONF"]
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        said = "".join(f"export {name}={value}\n" for name, value in self.own.items())
        (self.folder / "env.sh").write_text(said)

    def _logs(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "".join(f"\n{log.name}: {log.read_text()[-2000:]}" for log in logs)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens to."""
    found = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in found]
    for server in found:
        server.close()
    return ports


if __name__ == "__main__":
    if (why := missing()) is not None:
        sys.exit(why)
    with Slurm(Path(sys.argv[1])) as slurm, suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print(f"it is up: . {slurm.folder}/env.sh", flush=True)
        signal.pause()
