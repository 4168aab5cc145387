"""In words: how the settings and input files of now differ from those a partition was made with."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from aanet_assets.storage.obeyed import CODE, FILES, digest_of

_MANY = 200
"""Input files of one setting above which a record does not keep each one's hash."""
_SOME, _LONG = 3, 40
"""Changes that are named, and characters of a value that are shown."""


def short(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as a record keeps them: one digest stands for very many input files."""
    return {
        name: digest_of(value) if name.endswith(FILES) and len(value) > _MANY else value
        for name, value in values.items()
    }


def why_other(old: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Which settings changed, and from what to what, as the end of a "which ...".

    Args:
        old: as `short` gave them; None where an earlier version of the code did not keep them.
        now: as `settings_values` finds them.
    """
    changes = [] if old is None else list(_changes(old, short(now)))
    if not changes:
        return "was made with other settings or input files"
    more = f"; and {len(changes) - _SOME} more" if len(changes) > _SOME else ""
    return f"was made before a change: {'; '.join(changes[:_SOME])}{more}"


def _changes(old: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*old, *now}):
        before, after = old.get(name), now.get(name)
        if before == after:
            continue
        if name == CODE:
            yield f"the code of this step was version {before}, is now {after}"
        elif name.endswith(FILES):
            yield from _changed_files(name, before or {}, after or {})
        elif name not in old:
            yield f"{name} is new: {_shown(after)}"
        elif name not in now:
            yield f"{name} was {_shown(before)}, is no more"
        else:
            yield f"{name} was {_shown(before)}, is now {_shown(after)}"


def _changed_files(
    name: str, old: dict[str, str] | str, now: dict[str, str] | str
) -> Iterator[str]:
    if isinstance(old, str) or isinstance(now, str):
        yield f"some of the {name} changed"
        return
    setting = name.removesuffix(FILES)
    for file in sorted({*old, *now}):
        if file not in now:
            yield f"{setting} file {file} is gone"
        elif file not in old:
            yield f"{setting} file {file} is new"
        elif old[file] != now[file]:
            yield f"{setting} file {file} changed"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
