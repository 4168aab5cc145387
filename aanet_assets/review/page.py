"""The review page as one file: template, styles, script, data and plotly itself."""

import base64
import gzip
import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from aanet_assets.files import replacing


def write_page(path: Path, title: str, contents: dict[str, Any]) -> None:
    """Write the page; it opens without a server and without a network.

    Plotly's script is packed, and unpacked by the browser, which saves 3 MB.
    """
    here = files("aanet_assets.review")
    parts = {name: here.joinpath(f"page.{name}").read_text() for name in ("html", "css", "js")}
    packed = base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
    # A text that holds "</script>" must not end the script that holds the data.
    data = json.dumps(contents, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    page = parts["html"]
    for name, text in {
        "TITLE": html.escape(title),
        "STYLE": parts["css"],
        "SCRIPT": parts["js"],
        "DATA": data,
        "PLOTLY": packed,
    }.items():
        page = page.replace(f"@@{name}@@", text)
    with replacing(path) as temporary:
        temporary.write_text(page)
