"""The review page as one file: template, styles, script, data and plotly itself."""

import base64
import gzip
import html
import json
import re
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from aanet_assets.storage.files import replacing

_DATA = re.compile(r'<script id="data" type="text/plain">(.*?)</script>', re.DOTALL)


def write_page(path: Path, title: str, contents: dict[str, Any]) -> None:
    """Write the page; it opens without a server and without a network.

    Data and plotly's script are packed, and unpacked by the browser: a third of the size.
    """
    here = files("aanet_assets.review")
    parts = {
        name: here.joinpath(f"page.{name}").read_text(encoding="utf-8")
        for name in ("html", "css", "functional.js", "js")
    }
    page = parts["html"]
    for name, text in {
        "TITLE": html.escape(title),
        "STYLE": parts["css"],
        "FUNCTIONAL": parts["functional.js"],
        "SCRIPT": parts["js"],
        "DATA": _packed(json.dumps(contents, separators=(",", ":"), allow_nan=False)),
        "PLOTLY": _packed(get_plotlyjs()),
    }.items():
        page = page.replace(f"@@{name}@@", text)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def read_data(path: Path) -> dict[str, Any]:
    """The contents that a page was written with, as JSON makes them; ValueError if damaged."""
    found = _DATA.search(path.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{path} holds no data")
    try:
        return json.loads(gzip.decompress(base64.b64decode(found[1], validate=True)))
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"the data in {path} is damaged: {error}") from error


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
