"""PostgreSQL, Slurm and Ray on this machine, in a folder, for one test."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from aanet_assets_tests.torture.home import PROJECT

_SLURM = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel")
# Two nodes of one core and one pretended GPU each. Nothing here is for a cluster that others use:
# whoever asks is believed (auth/none), and processes are found by their parents (linuxproc).
_SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=10
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000 Gres=gpu:1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing_for_slurm() -> str | None:
    """What is not installed of what a test of Slurm needs, in words."""
    return _missing(_SLURM)


def missing_for_postgres() -> str | None:
    """What is not installed of what a test of PostgreSQL alone needs, in words."""
    return _missing([])


def missing_for_ray() -> str | None:
    """What is not installed of what a test of Ray needs, in words."""
    # Ray's jobs are words of a shell, which looks for them beside this Python.
    return _missing([str(Path(sys.executable).parent / name) for name in ("ray", "dagster")])


def _missing(commands: Sequence[str]) -> str | None:
    missing = [command for command in commands if shutil.which(command) is None]
    if _postgres_bin() is None:
        missing.append("PostgreSQL's initdb")
    if os.getuid() == 0 and shutil.which("runuser") is None:
        missing.append("runuser")
    return f"{', '.join(missing)} not installed (see docs/scale.md)" if missing else None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _postgres_bin() -> Path | None:
    found = shutil.which("initdb")
    # Debian keeps them out of the way.
    places = (
        [Path(found).resolve().parent]
        if found
        else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    )
    return places[-1] if places else None


class Postgres:
    """An empty database `postgres` of a user `dagster`, in a folder."""

    def __init__(self, folder: Path, password: str):
        # PostgreSQL refuses to run as root.
        self._before = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        (self.port,) = free_ports(1)
        self._folder = folder
        folder.mkdir()
        secret = folder / "password"
        secret.write_text(password)
        if self._before:
            for path in (folder, secret):
                shutil.chown(path, "postgres")
        self._run("initdb", "-U", "dagster", "--auth=scram-sha-256", f"--pwfile={secret}")

    def start(self) -> None:
        """Start it, or start it again with what it has."""
        folder = self._folder
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        )
        self._run("pg_ctl", "-w", "-o", options, "-l", str(folder / "postgres.log"), "start")

    def stop(self) -> None:
        """Stop it at once, as if the machine had failed."""
        self._run("pg_ctl", "-m", "immediate", "stop")

    def _run(self, tool: str, *arguments: str) -> None:
        binaries = _postgres_bin()
        assert binaries is not None
        command = [*self._before, str(binaries / tool), "-D", str(self._folder / "data")]
        # What stays in the background must not hold this process's pipes.
        with (self._folder / f"{tool}.out").open("ab") as log:
            subprocess.run([*command, *arguments], check=True, cwd="/", stdout=log, stderr=log)


@contextmanager
def postgres(folder: Path, password: str) -> Iterator[Postgres]:
    """One that runs."""
    server = Postgres(folder, password)
    server.start()
    try:
        yield server
    finally:
        # It may be stopped already.
        with suppress(subprocess.CalledProcessError):
            server.stop()


@contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """A cluster of two nodes; its slurm.conf, to which SLURM_CONF must be set."""
    for name in ("state", "spool/n1", "spool/n2"):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(
        _SLURM_CONF.format(
            folder=folder,
            host=socket.gethostname(),
            user=getpass.getuser(),
            ports=free_ports(3),
        )
    )
    devices = [folder / "gpu"]
    devices[0].touch()
    (folder / "gres.conf").write_text(
        "\n".join(f"NodeName={node} Name=gpu File={devices[0]}" for node in ("n1", "n2")) + "\n"
    )
    # Nothing here makes control groups.
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    commands = (["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"])
    processes = [_start(command, folder, environment) for command in commands]
    try:
        _wait(lambda: _ask(["sinfo", "-h", "-o", "%T %D"], environment) == "idle 2", 60, folder)
        yield conf
    finally:
        _ask(["scancel", "--full", f"--user={getpass.getuser()}"], environment)
        with suppress(TimeoutError):
            _wait(lambda: not _ask(["squeue", "-h"], environment), 30, folder)
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


class Ray(NamedTuple):
    """A Ray of two nodes, of a core and a pretended GPU each."""

    address: str
    """It takes jobs."""
    second: psutil.Process
    """The node that is not the head."""

    def kill_second(self) -> None:
        """End it and all that works on it at once, as if its machine had failed."""
        for process in (*self.second.children(recursive=True), self.second):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def node_of(self, run_id: str) -> str | None:
        """Which node works on a run of Dagster's; None where none does yet."""
        with urllib.request.urlopen(f"{self.address}/api/jobs/") as answer:
            for job in json.load(answer):
                if (job["metadata"] or {}).get("dagster/run-id") == run_id:
                    return job["driver_node_id"]
        return None

    def head(self) -> str:
        """The head's name among the nodes."""
        with urllib.request.urlopen(f"{self.address}/nodes?view=summary") as answer:
            nodes = json.load(answer)["data"]["summary"]
        return next(n["raylet"]["nodeId"] for n in nodes if n["raylet"]["isHeadNode"])


@contextmanager
def ray(folder: Path) -> Iterator[Ray]:
    """One that runs."""
    folder.mkdir()
    binaries = Path(sys.executable).parent
    port, dashboard, client, *agents = free_ports(5)
    address = f"http://127.0.0.1:{dashboard}"
    common = [
        "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1", "--num-cpus=1",
        "--num-gpus=1", f"--object-store-memory={200 * 2**20}",
    ]  # fmt: skip
    head = [
        "--head", f"--port={port}", f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}", f"--temp-dir={folder / 'tmp'}",
    ]  # fmt: skip
    # Jobs see what its nodes see: this Python's commands, and the package of the tests.
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
    }
    processes: list[subprocess.Popen] = []

    def nodes() -> int:
        """How many nodes the head knows to be alive."""
        try:
            with urllib.request.urlopen(f"{address}/nodes?view=summary", timeout=5) as answer:
                found = json.load(answer)["data"]["summary"]
        except OSError:
            return 0
        return sum(node["raylet"].get("state") == "ALIVE" for node in found)

    try:
        for number, own in enumerate((head, [f"--address=127.0.0.1:{port}"])):
            command = [str(binaries / "ray"), "start", *own, *common]
            command.append(f"--dashboard-agent-listen-port={agents[number]}")
            processes.append(_start(command, folder, environment))
            _wait(lambda wanted=number + 1: nodes() == wanted, 120, folder)
        yield Ray(address, psutil.Process(processes[1].pid))
    finally:
        all_of_them = [
            one
            for process in (psutil.Process(own.pid) for own in processes if own.poll() is None)
            for one in (process, *process.children(recursive=True))
        ]
        for process in reversed(processes):
            process.terminate()
        # With jobs at work they may wait for them.
        for left in psutil.wait_procs(all_of_them, timeout=20)[1]:
            left.kill()
        for process in processes:
            process.wait()


def _start(command: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    with (folder / f"{Path(command[0]).name}_{time.monotonic_ns()}.out").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _ask(command: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


def _wait(until: Callable[[], bool], seconds: float, folder: Path) -> None:
    give_up = time.monotonic() + seconds
    while not until():
        if time.monotonic() > give_up:
            raise TimeoutError(f"it did not come so far in {seconds:.0f} s; see {folder}")
        time.sleep(0.5)
