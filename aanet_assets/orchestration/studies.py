"""The modules in `aanet_assets/studies`, by name; what is wrong with one is one sentence."""

import importlib
import pkgutil
import traceback
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from aanet_assets import studies
from aanet_assets.study.study import Study, require_own_module

PACKAGE = studies.__name__


class StudyModuleError(ValueError):
    """A study module cannot be used; the message says why and where."""


def study_names() -> list[str]:
    """Names of all study modules; none of them is loaded for that."""
    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def load_study(name: str) -> ModuleType:
    """The module of a study, with its `study` and its `defs`.

    Raises:
        StudyModuleError: there is no such module, it does not load, or lacks one of the two.
    """
    known = study_names()
    if name not in known:
        raise StudyModuleError(
            f"there is no study {name!r}; there are: {', '.join(known)}. To add one, copy one of "
            "the modules in aanet_assets/studies."
        )
    places = (Path(folder, name) for folder in studies.__path__)
    files = [f for p in places for f in (p.with_suffix(".py"), p / "__init__.py") if f.is_file()]
    if len(files) > 1:
        raise StudyModuleError(
            f"there are two modules of the study {name!r}, {files[0]} and {files[1]}, whose "
            "results would overwrite each other: rename one, and the study in it, or remove it"
        )
    try:
        module = importlib.import_module(f"{PACKAGE}.{name}")
    except ValidationError as error:
        raise StudyModuleError(f"study {name!r} has a wrong value. {_wrong(error)}") from None
    except (Exception, SystemExit) as error:
        said = (
            str(error)
            if _is_sentence(error)
            else f"study {name!r} cannot be loaded: {_what(error)}"
        )
        raise StudyModuleError(said) from error
    _require_parts(name, module)
    try:
        require_own_module(module.study, module.__name__)
    except ValueError as error:
        raise StudyModuleError(error) from None
    return module


def _wrong(error: ValidationError) -> str:
    """What is wrong with a study's settings: the field, what is asked for, and what it is."""
    lines = []
    for e in error.errors():
        group = () if error.title == "Study" else (error.title,)
        field = ".".join(map(str, (*group, *e["loc"])))
        said = e["msg"].removeprefix("Value error, ")
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
    """What was raised while a module was loaded, in one line, and where in the studies' files."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_in_study(frame)]
    return f"{said} ({own[-1].filename}, line {own[-1].lineno})" if own else said


def _require_parts(name: str, module: ModuleType) -> None:
    import dagster as dg

    for part, kind, line in (
        ("study", Study, "study = Study(...)"),
        ("defs", dg.Definitions, "defs = build_defs(study)"),
    ):
        found = getattr(module, part, None)
        if not isinstance(found, kind):
            said = "has no" if found is None else f"has a {type(found).__name__} as its"
            raise StudyModuleError(
                f"the module of study {name!r} {said} `{part}`: it needs a line `{line}` "
                f"({module.__file__})"
            )
