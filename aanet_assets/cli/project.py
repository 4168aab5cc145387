"""A project's folder of one's own: what `aanet init` writes."""

import importlib.metadata
import pkgutil
import re
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from aanet_assets.cli.terminal import console, require_plain_path, stop
from aanet_assets.study.layout import data_root
from aanet_assets.study.study import process_path

_SHARED = "share/aanet_assets/"
"""Where an installed package keeps what the repository has at its top level."""
_README = """# {name}

A project of [aanet-assets](https://pypi.org/project/aanet-assets): all commands are given in this
folder, or with AANET_HOME set to it.

```bash
aanet run toy      # the study with a known answer, to see that everything works
aanet plan mine    # what your own study will take: tokens, disk, memory, time
aanet run mine     # all of it; after a stop, the same command goes on
aanet ui           # Dagit on everything that was made
aanet sql mine "SELECT * FROM selected_clusters"
```

- `studies/mine.py` is your study; every setting is described where its class is defined, in
  `aanet_assets.study.settings`. A copy `studies/other.py` with `name="other"` is another one.
- `data/<study>/` holds what a study made; `dagster.yaml` is Dagster's own configuration.
"""
_STUDY = '''"""Say here what this study is to find out."""

from aanet_assets.orchestration.build import build_defs
from aanet_assets.study.settings import CacheSettings, CorpusSettings, SaeSettings
from aanet_assets.study.study import Study

study = Study(
    name="mine",
    description="The toy's model and SAE on its own text: put yours in their places.",
    # A folder here, or a name of Hugging Face's hub.
    model="data/inputs/toy/model",
    # directory=..., or release=... and id=... as SAELens knows them.
    sae=SaeSettings(directory="data/inputs/toy/sae"),
    # files=..., or dataset=... of the hub. This is text of the toy, made by `aanet run toy`.
    corpus=CorpusSettings(files="data/toy/corpus/*.parquet"),
    cache=CacheSettings(
        seq_len=17, documents_per_shard=8_000, tokens_per_shard=8_000 * 17,
        training_shards=4, heldout_shards=1,
    ),
    n_clusters=(6, 7, 8),
    ks=(2, 3, 4, 5),
)
defs = build_defs(study)
'''


_PYPROJECT = """[project]
name = "{name}"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["aanet-assets"]

# For `dg scaffold defs aanet_assets.orchestration.component.StudyComponent NAME`, `dg check defs`.
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "studies"
defs_module = "studies"
code_location_name = "aanet_assets"
code_location_target_module = "aanet_assets.definitions"
"""
Like = Annotated[
    str | None, typer.Option("--from", help="A study of the package, like toy: mine is a copy.")
]


def init(
    folder: Annotated[Path, typer.Argument(help="Made if it is not there.")] = Path("."),
    like: Like = None,
) -> None:
    """Write a project's folder: Dagster's files, the toys' models, and a study ready to edit."""
    require_plain_path(folder.resolve())
    study = _STUDY if like is None else _copy_of(like)
    if there := [file for file in ("dagster.yaml", "studies") if (folder / file).exists()]:
        raise stop(f"{folder.resolve()} has a {there[0]} already: name an empty or a new folder")
    for name, file in _shared().items():
        to = folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
    (folder / "studies").mkdir()
    (folder / "studies/mine.py").write_text(study, encoding="utf-8")
    name = folder.resolve().name
    # A name that packaging tools take.
    distribution = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "project"
    for file, content in (
        ("README.md", _README.format(name=name)),
        ("pyproject.toml", _PYPROJECT.format(name=distribution)),
    ):
        if not (folder / file).exists():
            (folder / file).write_text(content, encoding="utf-8")
    enter = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    console.print(
        f"{folder.resolve()} is ready. Next: {enter}aanet run toy",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _copy_of(name: str, own: str = "mine") -> str:
    """The module of a study of the package, as that of a study with this name and its own files."""
    shipped = Path(__file__).parents[1] / "defs"
    names = sorted(module.name for module in pkgutil.iter_modules([str(shipped)]))
    if name not in names:
        raise stop(f"there is no study {name!r} to copy; there are: {', '.join(names)}")
    text = (shipped / f"{name}.py").read_text(encoding="utf-8")
    return text.replace(f'name="{name}"', f'name="{own}"').replace(
        f'"data/{name}/', f'"data/{own}/'
    )


def toy_study(process: str, components: int, inputs: Path) -> str:
    """The module of a study like the toy's, of a process of one's own.

    Args:
        process: the JSON file, or `module:Class`.
        components: how many the process has.
        inputs: folder of the model and the SAE.

    Raises:
        ValueError: the file's name is not that of a study.
    """
    name = process_path(process).stem
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"the study has the name of the file, and {name!r} is none: small letters, digits and "
            "_ alone, a letter first. Rename the file"
        )
    _, _, code = _copy_of("toy", name).split('"""', 2)
    around = sorted({max(components - 1, 1), components, components + 1})
    text = f'"""A toy: a small transformer on the process {process}."""{code}'
    for old, new in (
        (r'description=".*"', f'description="A transformer on the process {process}."'),
        (r'"data/inputs/toy(?=/)', f'"{inputs.as_posix()}'),
        (r"n_clusters=\(.*\)", f"n_clusters={tuple(around)}"),
        (r'process=".*"', f'process="{process}", n_clusters={components}'),
    ):
        text = re.sub(old, lambda _, new=new: new, text)
    return text


def write_study(text: str, name: str) -> Path:
    """Write a study's module among the project's; one that is there stays as it is."""
    file = data_root().parent / "studies" / f"{name}.py"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return file


def _shared() -> dict[str, Path]:
    """Files that come with the package, by where they lie in a project's folder."""
    repository = Path(__file__).parents[2]
    if (repository / "workspace.yaml").is_file():
        files = [repository / "dagster.yaml", repository / "workspace.yaml"]
        files += [file for file in (repository / "data/inputs").rglob("*") if file.is_file()]
        return {file.relative_to(repository).as_posix(): file for file in files}
    installed = importlib.metadata.files("aanet-assets") or []
    return {
        file.as_posix().partition(_SHARED)[2]: Path(str(file.locate()))
        for file in installed
        if _SHARED in file.as_posix()
    }
