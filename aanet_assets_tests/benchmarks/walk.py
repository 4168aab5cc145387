"""The walk of a new user from an empty folder, recorded: each command, its time, what it prints.

Builds the wheel and installs it in an environment of its own, which takes other packages from this
one; then types what docs/walk.md shows, and writes that page anew with what came of it:
`python -m aanet_assets_tests.benchmarks.walk FOLDER` (FOLDER is to be new; half an hour).
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from statistics import median

from aanet_assets_tests.scale.servers import free_ports

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "walk.md"
PICTURE = PROJECT / "docs" / "explorer_page.png"
KMEANS = """\
from aanet_assets.defs.toy import study as toy
from aanet_assets.orchestration.build import build_defs
from aanet_assets.study.settings import ClusteringSettings

study = toy.sharing(
    "toy_kmeans",
    n_clusters=toy.n_clusters,
    ks=toy.ks,
    rows=toy.rows,
    controls=toy.controls,
    clustering=ClusteringSettings(method="kmeans"),
)
defs = build_defs(study)
"""
LOOK = """\
from aanet_assets import open_study

study = open_study("toy")
simplex = study.simplex(7, {cluster})
print(simplex.vertices.shape)
print(simplex.project("{text}").query("active").head(4).round(3).to_string())
print(simplex.steer("{text}", vertex=0).head(4).round(3).to_string())
print(simplex.nearest(0, count=2).to_string())
simplex.save("simplex.safetensors")
"""
NEMO = """\
{"switch_rate": 0.0,
 "components": [
   {"kind": "nemo",
    "transitions": [[[0.0, 0.5, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.0]],
                    [[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]]}]}
"""
CHOOSE = """
import json
from aanet_assets import open_study
study = open_study("toy")
ids = [chosen.cluster_id for chosen in study.selected(7)]
simplex = next(s for s in (study.simplex(7, i) for i in ids) if s.k == 3)
text = " ".join(simplex.nearest(0, count=1)["full_text"].iloc[0].split()[:8])
print(json.dumps({"cluster": simplex.provenance.cluster_id, "text": text}))
"""


class Walk:
    """A user's terminal in a folder, and the page that is written of it."""

    def __init__(self, folder: Path):
        self.folder = folder / "project"
        self.folder.mkdir(parents=True)
        self._bin = _environment(folder) / "bin"
        here = {"PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "110"}
        # As in the Makefile: several threads per process only wait for each other.
        here["OMP_NUM_THREADS"] = "1"
        self._environment = {
            name: value
            for name, value in {**os.environ, **here}.items()
            if name not in ("AANET_HOME", "DAGSTER_HOME", "PYTHONPATH")
        }
        self.page: list[str] = []

    def say(self, text: str) -> None:
        """A paragraph of the page, or a heading."""
        self.page.append(text)

    def write(self, name: str, content: str, language: str) -> None:
        """A file that the user writes."""
        (self.folder / name).write_text(content)
        self.say(f"`{name}`:\n\n```{language}\n{content}```")

    def type(self, command: str, lines: int = 12) -> None:
        """A command, and the last lines of what it prints.

        Raises:
            SystemExit: it failed.
        """
        started = time.monotonic()
        done = self._run(command)
        took = time.monotonic() - started
        print(f"{took:7.1f} s  {command}", flush=True)
        if done.returncode:
            raise SystemExit(f"{command} failed:\n{done.stdout}")
        # Where the folder is says nothing to readers.
        said = _plain(done.stdout).replace(str(self.folder), "~/project")
        printed = [line.rstrip() for line in said.splitlines() if line.strip()]
        cut = ["..."] if len(printed) > lines else []
        shown = "\n".join(cut + printed[-lines:])
        self.say(f"```bash\n{command}    # {_words(took)}\n```")
        if shown:
            self.say(f"```text\n{shown}\n```")

    def serve(self, study: str, n: str, cluster: str, text: str) -> None:
        """The page of a study: a text is typed, the point put at a vertex, a picture taken."""
        from playwright.sync_api import sync_playwright

        (port,) = free_ports(1)
        command = f"aanet serve {study} --port {port}"
        server = self._start(command)
        started = time.monotonic()
        try:
            assert server.stdout is not None
            while "http://" not in server.stdout.readline():
                if server.poll() is not None:
                    raise SystemExit(f"{command} ended")
            took = time.monotonic() - started
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport={"width": 1300, "height": 1000})
                page.goto(f"http://127.0.0.1:{port}/")
                page.locator("#n").select_option(n)
                page.locator("#cluster").select_option(cluster)
                page.locator("#text").focus()
                answers = []
                for character in text:
                    pressed = time.monotonic()
                    with page.expect_response("**/api/project") as answer:
                        page.keyboard.type(character)
                    answer.value.finished()
                    answers.append(time.monotonic() - pressed)
                page.get_by_role("button", name="put at vertex 1").click()
                page.locator("#edit", has_text="1.00").wait_for()
                page.screenshot(path=PICTURE, full_page=True)
                browser.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
        self.say(f"```bash\naanet serve {study}    # {_words(took)} until it is there\n```")
        self.say(
            f"The same text, typed in the browser: each key had its answer after "
            f"{1000 * median(answers):.0f} ms (median; at most {1000 * max(answers):.0f} ms). Then "
            "the last active token is put at vertex 1:"
        )
        self.say(f"![A prompt's path through a simplex of the toy]({PICTURE.name})")

    def ask(self, code: str) -> str:
        """What a Python of the user's prints."""
        return self._run(f"python -c '{code}'").stdout.splitlines()[-1]

    def _start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            shlex.split(command), cwd=self.folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=self.folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip


def _environment(folder: Path) -> Path:
    """One with the wheel, which sees this environment's other packages."""
    source, wheels, environment = (folder / name for name in ("source", "wheels", "environment"))
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns(".*", "data"))
    shutil.copytree(PROJECT / "data/inputs", source / "data/inputs")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(wheels), str(source)], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    own = [str(environment / "bin/pip"), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(own, check=True)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return environment


def _plain(text: str) -> str:
    """Without colours, and of lines that were written over only the last."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return "\n".join(line.split("\r")[-1] for line in text.split("\n"))


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def walk(folder: Path, machine: str) -> list[str]:
    """What a new user types, from an empty folder on; the page."""
    user = Walk(folder)
    user.say("# A new user's walk")
    user.say(
        "From an empty folder, after `pip install aanet-assets`: everything as it was typed and "
        f"printed, with its time on {machine}. "
        "`python -m aanet_assets_tests.benchmarks.walk FOLDER` walks again, and writes this page."
    )
    user.say("## From an empty folder to a finished toy")
    user.type("aanet init", 4)
    user.type("aanet run toy --workers 2", 30)
    user.type("aanet list", 8)
    user.say("## Another method on the same cache")
    user.write("studies/toy_kmeans.py", KMEANS, "python")
    user.type("aanet run toy_kmeans --workers 2", 12)
    user.type("aanet compare toy toy_kmeans", 30)
    user.say("## A sentence of one's own")
    found = json.loads(user.ask(CHOOSE))
    user.type(f'aanet project toy 7 {found["cluster"]} "{found["text"]}"', 16)
    user.write("look.py", LOOK.format(**found), "python")
    user.type("python look.py", 20)
    user.serve("toy", "7", str(found["cluster"]), found["text"])
    user.say("## A process of one's own")
    user.write("nemo.json", NEMO, "json")
    user.type("aanet train-toy --process nemo.json", 3)
    user.type("aanet run nemo --workers 2", 16)
    return user.page


def main() -> None:
    """Walk, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--machine", default="two cores without a GPU", help="what it runs on, as the page tells it"
    )
    arguments = parser.parse_args()
    page = walk(arguments.folder.resolve(), arguments.machine)
    PAGE.write_text("\n\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
