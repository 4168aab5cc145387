"""The server of the page, asked as the page does."""

import http.client
import json
from typing import Any

import numpy as np
import pytest

from aanet_assets.explore.server import Explorer
from aanet_assets_tests.explore.texts import active_text


def ask(
    explorer: Explorer, path: str, content: Any = None, method: str = "POST", **headers: str
) -> tuple[int, Any]:
    """Status and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", explorer.server_port)
    kind = {"Content-Type": "application/json"}
    connection.request(method, path, json.dumps(content), {**kind, **headers})
    answer = connection.getresponse()
    found = answer.read()
    connection.close()
    return answer.status, json.loads(found)


def asking(text: str, /, **changes: Any) -> dict[str, Any]:
    return {"n": 7, "cluster": 0, "k": None, "text": text} | changes


def test_it_listens_on_this_machine_alone(explorer: Explorer) -> None:
    assert explorer.server_address[0] == "127.0.0.1"
    # A name that leads here by another site's trick.
    port = explorer.server_port
    for path, method in (("/api/study", "GET"), ("/api/project", "POST")):
        status, found = ask(explorer, path, asking("a1"), method, Host=f"evil.example:{port}")
        assert (status, found["error"]) == (403, f"this server answers as 127.0.0.1:{port} only")
    wrong = {"Content-Type": "text/plain"}
    status, found = ask(explorer, "/api/project", asking("a1"), **wrong)
    assert (status, found["error"]) == (400, "the request is no JSON object")


def test_it_tells_the_clusterings(explorer: Explorer) -> None:
    status, found = ask(explorer, "/api/study", method="GET")
    assert status == 200
    assert found == {
        "study": "small",
        "ks": [2, 3, 4],
        "clusterings": [
            {"n": 6, "selected": {}, "problem": None},
            {"n": 7, "selected": {"0": 3, "3": 2}, "problem": None},
        ],
    }


def test_tokens_and_edits_are_those_of_the_simplex(explorer: Explorer) -> None:
    simplex = explorer.study.simplex(7, 0)
    text = active_text(simplex)
    status, found = ask(explorer, "/api/project", asking(text))
    expected = simplex.project(text)
    assert status == 200
    assert found["k"] == 3
    assert [one["b"] is not None for one in found["tokens"]] == expected["active"].tolist()
    own = [one["b"] for one in found["tokens"] if one["b"]]
    active = expected[expected["active"]]
    np.testing.assert_allclose(own, active[["b_1", "b_2", "b_3"]], atol=1e-5)
    assert [one["start"] for one in found["tokens"]][:2] == [None, 0]
    b = [0.2, 0.3, 0.5]
    status, found = ask(explorer, "/api/put", asking(text, b=b))
    changes = simplex.put(text, b).set_index("token")
    assert status == 200
    assert len(found["tokens"]) == 12
    for one in found["tokens"]:
        assert one["after"] == pytest.approx(changes.loc[one["token"], "after"], abs=1e-6)
    assert sum(one["before"] for one in found["tokens"]) > 0.9


@pytest.mark.parametrize(
    ("path", "changes", "sentence"),
    [
        ("/api/project", {"n": 5}, "study 'small' has no n_clusters 5; it has 6, 7"),
        ("/api/project", {"cluster": 1}, "so that its k has to be given: one of 2, 3, 4"),
        ("/api/project", {"text": " "}, "the text has no token (' '): give it some words"),
        ("/api/project", {"text": 3}, "text is 3; it must be of the type str"),
        ("/api/put", {"b": [1, 1, 1]}, "they must be 3 numbers that sum to 1"),
        ("/api/put", {"b": ["x"]}, "b is ['x']; it must be a list of numbers"),
    ],
)
def test_mistakes_are_answered_by_a_sentence(
    explorer: Explorer, path: str, changes: dict, sentence: str
) -> None:
    status, found = ask(explorer, path, asking("a1 a2", **changes))
    assert status == 400
    assert sentence in found["error"]


def test_what_it_does_not_know_is_said(explorer: Explorer) -> None:
    assert ask(explorer, "/elsewhere", method="GET")[0] == 404
    assert ask(explorer, "/api/elsewhere", {})[0] == 404
    for _ in range(10):
        # All of it is taken in, so that the answer is heard each time.
        status, found = ask(explorer, "/api/project", {"text": "a" * 2**22})
        assert status == 413
        assert "4,194,316 bytes; at most 1,048,576 are taken" in found["error"]


def test_a_fault_of_its_own_is_said_and_leaves_it_running(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(explorer.study), "simplex", lambda *_: 1 / 0)
        status, found = ask(explorer, "/api/project", asking("a1", cluster=2, k=4))
    assert status == 500
    assert found["error"].startswith("the server failed (ZeroDivisionError: division by zero)")
    assert ask(explorer, "/api/project", asking("a1", cluster=2, k=4))[0] == 200


@pytest.mark.parametrize(("error", "is_news"), [(BrokenPipeError(), False), (OSError(), True)])
def test_a_browser_that_leaves_is_no_news(
    explorer: Explorer, capsys: pytest.CaptureFixture[str], error: OSError, is_news: bool
) -> None:
    try:
        raise error
    except OSError:
        explorer.handle_error(None, ("127.0.0.1", 1))
    assert ("Traceback" in capsys.readouterr().err) is is_news
