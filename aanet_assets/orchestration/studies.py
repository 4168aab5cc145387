"""The studies of the package and of the project, by name; what is wrong with one is one sentence.

A study is a module `name.py` with its `study` and its `defs`, or a folder `name/` with a
`defs.yaml`, as `dg scaffold defs` makes one. Activations that studies share stand by themselves in
the same ways, as `activations`; by their name they are loaded as a study without clusters.
"""

import importlib.util
import logging
import pkgutil
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

import dagster as dg
from pydantic import ValidationError

from aanet_assets import defs as studies
from aanet_assets.study.layout import data_root
from aanet_assets.study.study import Activations, Study, require_module_name

log = logging.getLogger("aanet")

PACKAGE = studies.__name__
_YAML = "defs.yaml"
Part = TypeVar("Part")


class StudyModuleError(ValueError):
    """A study cannot be used; the message says why and where."""


class LoadedStudy(NamedTuple):
    """A study, and what Dagster knows of it."""

    study: Study
    defs: dg.Definitions


def study_names() -> list[str]:
    """Names of all studies; none of them is loaded for that."""
    modules = {module.name for module in pkgutil.iter_modules(studies.__path__)}
    folders = {found.parent.name for path in studies.__path__ for found in _yaml_files(path)}
    return sorted(modules | folders)


def _yaml_files(folder: str) -> list[Path]:
    return [path for path in Path(folder).glob(f"*/{_YAML}") if path.is_file()]


def load_study(name: str) -> LoadedStudy:
    """A study by its name.

    Raises:
        StudyModuleError: there is no such study, or its file does not load or lacks a part.
    """
    known = study_names()
    if name not in known:
        raise StudyModuleError(
            f"there is no study {name!r}; there are: {', '.join(known)}. To add one, write "
            f"{studies.__path__[-1]}/{name}.py, as a copy of one of {studies.__path__[0]}"
        )
    files = _files_of(name)
    if len(files) > 1:
        raise StudyModuleError(
            f"there are two files of the study {name!r}, {files[0]} and {files[1]}, whose "
            "results would overwrite each other: rename one, and the study in it, or remove it"
        )
    try:
        loaded = _from_yaml(files[0]) if files[0].name == _YAML else _from_module(name)
        require_module_name(loaded.study, f"{PACKAGE}.{name}")
    except StudyModuleError:
        raise
    except (Exception, SystemExit) as error:
        raise StudyModuleError(_sentence(name, error)) from error
    return loaded


def _files_of(name: str) -> list[Path]:
    """Files that make a study of this name: one, unless something is wrong."""
    places = (Path(folder, name) for folder in studies.__path__)
    return [
        file
        for place in places
        for file in (place.with_suffix(".py"), place / "__init__.py", place / _YAML)
        if file.is_file()
    ]


def load_study_file(path: Path) -> Study:
    """The study of a module, wherever it lies; what it makes is in the project's folder.

    Raises:
        StudyModuleError: it is not there, does not load, builds no study of its own name, or there
            is another one of that name.
    """
    if path.suffix != ".py" or not path.is_file():
        raise StudyModuleError(
            f"there is no study at {path}: give the path of a module that builds one, mine.py, or "
            "a study's name"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        study = _study_of(module)
        require_module_name(study, path.stem)
    except StudyModuleError:
        raise
    except (Exception, SystemExit) as error:
        raise StudyModuleError(_sentence(path.stem, error)) from error
    if others := [file for file in _files_of(study.name) if not file.samefile(path)]:
        raise StudyModuleError(
            f"{path} builds a study {study.name!r}, and so does {others[0]}, whose results are in "
            f"the same folder and would be overwritten: rename the file and the study in it"
        )
    return study


def _from_yaml(file: Path) -> LoadedStudy:
    from aanet_assets.orchestration.build import build_defs
    from aanet_assets.orchestration.component import ActivationsComponent, StudyComponent

    # A tree of this folder alone: one of all studies is broken by any of them.
    folder = importlib.import_module(f"{PACKAGE}.{file.parent.name}")
    tree = dg.ComponentTree.from_module(folder, project_root=data_root().parent)
    components = tree.get_all_components(of_type=ActivationsComponent)
    if len(components) != 1:
        raise StudyModuleError(
            f"{file} has {len(components)} components of the type {StudyComponent.__module__}."
            f"{StudyComponent.__name__} or {ActivationsComponent.__name__}; a study is one"
        )
    (component,) = components
    return LoadedStudy(component.study, build_defs(component.study))


def _from_module(name: str) -> LoadedStudy:
    module = importlib.import_module(f"{PACKAGE}.{name}")
    study = _study_of(module)
    return LoadedStudy(study, _part(module, "defs", dg.Definitions, "defs = build_defs(study)"))


def _study_of(module: ModuleType) -> Study:
    """The study of a module, or its activations; those of another module may be imported in it."""
    found, own = getattr(module, "activations", None), module.__name__.rpartition(".")[2]
    if isinstance(found, Activations) and found.name == own and not hasattr(module, "study"):
        return found.alone
    return _part(module, "study", Study, "study = Study(...)")


def _part(module: ModuleType, part: str, kind: type[Part], line: str) -> Part:
    """What a study's module has to have; `line` says how."""
    found = getattr(module, part, None)
    if not isinstance(found, kind):
        said = "has no" if found is None else f"has a {type(found).__name__} as its"
        name = module.__name__.rpartition(".")[2]
        raise StudyModuleError(
            f"the module of study {name!r} {said} `{part}`: it needs a line `{line}` "
            f"({module.__file__})"
        )
    return found


def _sentence(name: str, error: BaseException) -> str:
    """What is wrong with a study's file."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for cause in reversed(causes):
        if isinstance(cause, StudyModuleError):
            return str(cause)
        if isinstance(cause, ValidationError):
            return f"study {name!r} has a wrong value. {_wrong(cause)}"
    return str(error) if _is_sentence(error) else f"study {name!r} cannot be loaded: {_what(error)}"


def _wrong(error: ValidationError) -> str:
    """What is wrong with a study's settings: the field, what is asked for, and what it is."""
    lines = []
    for e in error.errors():
        # In YAML the place begins with the kind of study.
        place = e["loc"][1:] if error.title == "StudyAttributes" else e["loc"]
        is_whole = error.title in ("Study", "StudyAttributes", "SharingStudy", "Activations")
        group = () if is_whole else (error.title,)
        field = ".".join(map(str, (*group, *place)))
        said = e["msg"].removeprefix("Value error, ")
        if e["type"] == "extra_forbidden":
            said = "there is no such setting: correct its name, or take it out"
        text = f"{field}: {said}" if field else said
        # Where fields do not go together, the value is the whole group or study.
        lines.append(text if isinstance(e["input"], dict) else f"{text} (it is {e['input']!r})")
    return "; ".join(lines)


def _is_sentence(error: BaseException) -> bool:
    """Whether it is the project's own refusal, and so needs no more words."""
    raised = traceback.extract_tb(error.__traceback__)[-1]
    package = str(Path(str(studies.__file__)).parents[1])
    is_own = raised.filename.startswith(package) and not _is_in_study(raised)
    return type(error) is ValueError and is_own


def _is_in_study(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(tuple(studies.__path__))


def _what(error: BaseException) -> str:
    """What was raised while a study was loaded, in one line, and where in the studies' files."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_in_study(frame)]
    return f"{said} ({own[-1].filename}, line {own[-1].lineno})" if own else said


def all_definitions() -> dg.Definitions:
    """Every study in one code location.

    In place of one that does not load stands an asset `not_loaded` that says why: it takes no other
    study down.
    """
    found = []
    for name in study_names():
        try:
            found.append(load_study(name).defs)
        except StudyModuleError as error:
            log.warning(f"study {name!r} is not loaded: {error}")
            spec = dg.AssetSpec(
                [name, "not_loaded"],
                description=f"This study does not load: {error}",
                group_name=name,
                kinds={"error"},
            )
            found.append(dg.Definitions(assets=[spec], executor=dg.in_process_executor))
    return dg.Definitions.merge(*found)
