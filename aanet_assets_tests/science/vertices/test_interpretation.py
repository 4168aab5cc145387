"""Names for vertices: by words, and by a server that answers, lags, breaks or talks nonsense."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from aanet_assets.science.vertices.endpoint import Endpoint, NoAnswerError
from aanet_assets.science.vertices.interpretation import ContrastWords, Examples, Passage, interpret
from aanet_assets.study.settings import InterpretationSettings


class Server:
    """An OpenAI-compatible server whose model does what the test says."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.answer: Callable[[str], str] = lambda question: "a name"
        self.status, self.delay = 200, 0.0
        self.raw: str | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(
                    {**body, "path": self.path, "key": self.headers["Authorization"]}
                )
                time.sleep(server.delay)
                content = server.answer(body["messages"][0]["content"])
                said = {"choices": [{"message": {"role": "assistant", "content": content}}]}
                answer = server.raw if server.raw is not None else json.dumps(said)
                self.send_response(server.status)
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def passages(word: str, count: int, start: int = 0) -> list[Passage]:
    """Passages about a word, each with a number of its own."""
    texts = [(f"x{i}", word, "y") for i in range(start, start + count)]
    return [Passage(f"{' '.join(own[:-1])} <<{own[-1]}>>", own) for own in texts]


EXAMPLES = [
    Examples(passages("red", 6), passages("red", 8, 20), passages("grey", 8, 40),
             passages("grey", 8, 60)),
    Examples(passages("blue", 6), passages("blue", 8, 20), passages("grey", 8, 40), []),
]  # fmt: skip


def reader(question: str) -> str:
    """A model that names by the colour, and finds it again."""
    if question.startswith("In each"):
        return '"red things"' if "red" in question.split("Passages of other")[0] else "blue things"
    colour = question.splitlines()[0].split(": ")[1].split()[0]
    lines = [line for line in question.splitlines() if line[:1].isdigit()]
    return f"These: {[int(one.split('.')[0]) for one in lines if colour in one]}"


def asked_of(url: str | None, **changes: object) -> InterpretationSettings:
    return InterpretationSettings(endpoint=url, explainer="namer", **changes)  # type: ignore[arg-type]


def test_without_an_endpoint_contrast_words_name_and_say_so(tmp_path: Path) -> None:
    settings = InterpretationSettings()
    rows = interpret(EXAMPLES, settings, Endpoint(settings, tmp_path))
    assert [row["name"].split(", ")[0] for row in rows] == ["red", "blue"]
    assert {row["named_by"] for row in rows} == {row["scored_by"] for row in rows}
    assert rows[0]["named_by"] == "contrast words"
    assert [row["detection"] for row in rows] == [1, 1]
    assert [row["fuzzing"] for row in rows] == [1, None]
    assert [row["problem"] for row in rows] == ["", ""]
    assert not list(tmp_path.iterdir())


def test_a_model_names_and_another_scores_and_no_question_is_asked_twice(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = reader
    monkeypatch.setenv("MY_KEY", "secret")
    settings = asked_of(server.url, scorer="judge", key_variable="MY_KEY")
    rows = interpret(EXAMPLES, settings, Endpoint(settings, tmp_path))
    assert [(r["name"], r["named_by"], r["scored_by"]) for r in rows] == [
        ("red things", "namer", "judge"),
        ("blue things", "namer", "judge"),
    ]
    assert [(r["detection"], r["fuzzing"], r["problem"]) for r in rows] == [
        (1, 1, ""),
        (1, None, ""),
    ]
    assert [one["model"] for one in server.asked] == ["namer", "judge", "judge", "namer", "judge"]
    assert {one["path"] for one in server.asked} == {"/v1/chat/completions"}
    assert {one["key"] for one in server.asked} == {"Bearer secret"}
    kept = [path.read_text() for path in tmp_path.iterdir()]
    assert len(kept) == 5
    assert not any("secret" in text for text in kept)
    server.http.shutdown()
    assert interpret(EXAMPLES, settings, Endpoint(settings, tmp_path)) == rows


def test_an_endpoint_that_is_down_is_asked_once_and_words_take_over(tmp_path: Path) -> None:
    settings = asked_of("http://127.0.0.1:9/v1")
    rows = interpret(EXAMPLES, settings, Endpoint(settings, tmp_path))
    assert [row["named_by"] for row in rows] == ["contrast words"] * 2
    assert all(
        "http://127.0.0.1:9/v1/chat/completions cannot be reached" in r["problem"] for r in rows
    )
    assert [row["detection"] for row in rows] == [1, 1]


def test_a_slow_endpoint_is_not_waited_for_again(server: Server, tmp_path: Path) -> None:
    server.delay = 1.0
    settings = asked_of(server.url, timeout=0.2)
    started = time.monotonic()
    rows = interpret(EXAMPLES * 5, settings, Endpoint(settings, tmp_path))
    assert time.monotonic() - started < 5
    assert len(server.asked) == 1
    assert all("cannot be reached" in row["problem"] for row in rows)


@pytest.mark.parametrize(
    ("status", "raw", "said"),
    [
        (500, "oh no", r"answers 500: 'oh no'"),
        (401, "who are you", r"answers 401: 'who are you'"),
        (429, "later", r"answers 429"),
        (200, "<html>", r"does not answer as chat completions do: '<html>'"),
        (200, '{"choices": []}', r"does not answer as chat completions do"),
        (200, '{"choices": [{"message": {"content": ""}}]}', r"an empty answer"),
    ],
)
def test_an_endpoint_that_breaks_or_is_rude(
    server: Server, tmp_path: Path, status: int, raw: str, said: str
) -> None:
    server.status, server.raw = status, raw
    settings = asked_of(server.url)
    with pytest.raises(NoAnswerError, match=said):
        Endpoint(settings, tmp_path).ask("namer", "?")
    rows = interpret(EXAMPLES, settings, Endpoint(settings, tmp_path))
    assert {row["named_by"] for row in rows} == {"contrast words"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", ["all of them", "[99]", "[0]"])
def test_a_scorer_that_cannot_count_leaves_no_score(
    server: Server, tmp_path: Path, answer: str
) -> None:
    server.answer = lambda question: answer if question.startswith("A state") else "red things"
    settings = asked_of(server.url)
    rows = interpret(EXAMPLES, settings, Endpoint(settings, tmp_path))
    assert [(row["named_by"], row["scored_by"]) for row in rows] == [("namer", None)] * 2
    assert all(row["problem"].startswith("not scored: namer ") for row in rows)
    assert not any(row.get("detection") for row in rows)


def test_contrast_words_of_equal_vertices_tell_nothing() -> None:
    same = [EXAMPLES[0], EXAMPLES[0]]
    assert not any(ContrastWords(0, same)(EXAMPLES[0].near))
    assert np.mean(ContrastWords(0, EXAMPLES)(EXAMPLES[0].near)) == 1


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="an endpoint needs the name of a model"):
        InterpretationSettings(endpoint="http://localhost/v1")
    with pytest.raises(ValueError, match="pattern"):
        InterpretationSettings(endpoint="localhost:8000", explainer="x")
