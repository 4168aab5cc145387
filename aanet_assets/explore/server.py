"""A local page on which texts are projected into a study's simplices, and predictions edited."""

import json
import logging
import sys
import threading
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from aanet_assets.explore.opened import OpenStudy
from aanet_assets.explore.simplex import Simplex
from aanet_assets.storage.records import NotReadyError

log = logging.getLogger("aanet")

HOST = "127.0.0.1"
_PAGES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_LARGEST = 2**20
"""Bytes of a request."""
_SHOWN = 12
"""Tokens whose probabilities are shown."""


class Explorer(ThreadingHTTPServer):
    """Serves one study on 127.0.0.1; its model and SAE stay loaded.

    Args:
        study: whose simplices are shown.
        port: where; 0 for any that is free, which `server_port` then tells.

    Raises:
        OSError: the port cannot be had.
        ValueError: the study's model cannot be loaded.
    """

    daemon_threads = True

    def __init__(self, study: OpenStudy, port: int):
        self.study = study
        self._simplices: dict[tuple[int, int, int | None], Simplex] = {}
        # A model works on one thing at a time.
        self._turn = threading.Lock()
        super().__init__((HOST, port), _Handler)
        try:
            study.load_model()
        except BaseException:
            self.server_close()
            raise

    @cached_property
    def hosts(self) -> set[str]:
        """What a browser on this machine calls the server; any other name leads here by a trick."""
        return {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves before its answer is there is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def about(self) -> dict[str, Any]:
        """The study's clusterings: selected clusters and their k, or why they are not known."""
        clusterings = []
        for n in self.study.study.n_clusters:
            one: dict[str, Any] = {"n": n, "selected": {}, "problem": None}
            try:
                one["selected"] = {each.cluster_id: each.k for each in self.study.selected(n)}
            except (ValueError, NotReadyError) as error:
                one["problem"] = str(error)
            clusterings.append(one)
        return {
            "study": self.study.study.name,
            "ks": self.study.study.ks,
            "clusterings": clusterings,
        }

    def project(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Tokens of a text, with their coordinates where the cluster is active."""
        with self._turn:
            simplex = self._simplex(asked)
            found = simplex.project(_of(asked, "text", str))
        names = [f"b_{i}" for i in range(1, simplex.k + 1)]
        tokens = []
        for row in found.astype(object).where(found.notna(), None).to_dict("records"):
            kept = {name: row[name] for name in ("token", "start", "end", "counted", "vertex_id")}
            b = [row[name] for name in names] if row["active"] else None
            tokens.append({**kept, "b": b})
        return {"k": simplex.k, "name": simplex.provenance.name, "tokens": tokens}

    def put(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The likeliest next tokens, before and after the last active token is put at a point."""
        with self._turn:
            found = self._simplex(asked).put(_of(asked, "text", str), _numbers(asked, "b"))
        likeliest = found[["before", "after"]].max(axis=1).nlargest(_SHOWN).index
        shown = found.loc[likeliest, ["token", "before", "after"]]
        return {"tokens": shown.to_dict("records")}

    def _simplex(self, asked: dict[str, Any]) -> Simplex:
        n, cluster = _of(asked, "n", int), _of(asked, "cluster", int)
        k = None if asked.get("k") is None else _of(asked, "k", int)
        if (n, cluster, k) not in self._simplices:
            self._simplices[n, cluster, k] = self.study.simplex(n, cluster, k)
        return self._simplices[n, cluster, k]


def _of(asked: dict[str, Any], name: str, kind: type) -> Any:
    value = asked.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be of the type {kind.__name__}")
    return value


def _numbers(asked: dict[str, Any], name: str) -> list[float]:
    found = asked.get(name)
    if not isinstance(found, list) or not all(type(x) in (int, float) for x in found):
        raise ValueError(f"{name} is {found!r}; it must be a list of numbers")
    return found


class _Handler(BaseHTTPRequestHandler):
    server: Explorer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    # Header and content are two writes: the second would wait for the first's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self._is_foreign():
            return
        if self.path in _PAGES:
            name, kind = _PAGES[self.path]
            content = files("aanet_assets.explore").joinpath(name).read_bytes()
            self._answer(200, content, f"{kind}; charset=utf-8")
        elif self.path == "/api/study":
            self._answer_with(lambda _: self.server.about(), {})
        else:
            self._say(404, f"there is no page {self.path}; the page is at /")

    def do_POST(self) -> None:
        if self._is_foreign():
            return
        size = int(self.headers.get("Content-Length") or 0)
        if size > _LARGEST:
            self.close_connection = True
            # Whoever is still sending would not hear the answer.
            left = size
            while left > 0 and (part := self.rfile.read(min(left, _LARGEST))):
                left -= len(part)
            self._say(413, f"the request has {size:,} bytes; at most {_LARGEST:,} are taken")
            return
        content = self.rfile.read(size)
        work = {"/api/project": self.server.project, "/api/put": self.server.put}.get(self.path)
        if work is None:
            self._say(404, f"nothing is asked at {self.path}")
            return
        try:
            asked = json.loads(content)
        except ValueError:
            asked = None
        # Other sites' pages can send forms here, but no JSON.
        if self.headers.get_content_type() != "application/json" or not isinstance(asked, dict):
            self._say(400, "the request is no JSON object")
            return
        self._answer_with(work, asked)

    def _answer_with(self, work: Any, asked: dict[str, Any]) -> None:
        try:
            found = work(asked)
        except (ValueError, NotReadyError, OSError) as error:
            self._say(400, str(error))
        except Exception as error:
            log.exception("a request failed")
            said = f"{type(error).__name__}: {error}"
            self._say(500, f"the server failed ({said}); its terminal says where")
        else:
            self._json(200, found)

    def _is_foreign(self) -> bool:
        """Whether another site's name leads here: its page could read all that is answered."""
        if self.headers.get("Host") in self.server.hosts:
            return False
        self.close_connection = True
        self._say(403, f"this server answers as {HOST}:{self.server.server_port} only")
        return True

    def _say(self, status: int, sentence: str) -> None:
        self._json(status, {"error": sentence})

    def _json(self, status: int, content: dict[str, Any]) -> None:
        text = json.dumps(content, allow_nan=False)
        self._answer(status, text.encode(), "application/json")

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""
