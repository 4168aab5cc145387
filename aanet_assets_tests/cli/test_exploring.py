"""`aanet project` and `aanet serve` as they are typed."""

import io
import re
import socket

import pytest
from rich.console import Console

from aanet_assets.cli import exploring
from aanet_assets.explore.opened import open_study
from aanet_assets.explore.server import Explorer
from aanet_assets_tests.conftest import Finished, said
from aanet_assets_tests.explore.texts import active_text, silent_text


def printed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What `aanet project` prints on a terminal, its colours included."""
    console = Console(force_terminal=True, color_system="standard", file=io.StringIO(), width=200)
    monkeypatch.setattr(exploring, "console", console)
    said("project", *arguments, code=0)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_active_tokens_are_marked_in_the_text_and_listed(finished: Finished, study_module) -> None:
    name = study_module("small_projected")
    simplex = open_study(finished.study).simplex(7, 0)
    text = active_text(simplex)
    output = said("project", name, "7", "0", text, code=0)
    found = simplex.project(text)
    words = [
        f"[{row['vertex_id']}:{row['token']}]" if row["active"] else row["token"]
        for row in found[1:].to_dict("records")
    ]
    assert output.startswith(" ".join(words))
    for row in found[found["active"]].to_dict("records"):
        coordinates = [f"{row[f'b_{i}']:.3f}" for i in (1, 2, 3)]
        cells = [str(row["position"]), repr(row["token"]), str(row["vertex_id"]), *coordinates]
        assert " │ ".join(cells) in re.sub(r"\s*│\s*", " │ ", output)


def test_a_terminal_has_colours_and_a_legend_unless_told_otherwise(
    finished: Finished, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = study_module("small_coloured")
    text = active_text(open_study(finished.study).simplex(7, 0))
    arguments = (name, "7", "0", text)
    output = printed(monkeypatch, *arguments)
    assert re.search(r"\x1b\[1;3\dm\w\d\x1b\[0m", output.splitlines()[0])
    assert "● vertex 0" in output
    assert re.sub(r"\x1b\[[\d;]*m", "", output).splitlines()[0] == text
    monkeypatch.setenv("NO_COLOR", "1")
    plain = printed(monkeypatch, *arguments)
    assert re.search(r"\[[012]:\w\d\]", plain.splitlines()[0])
    assert not re.search(r"\x1b\[[\d;]*3\dm", plain)


def test_a_text_at_which_the_cluster_is_silent_is_one_sentence(
    finished: Finished, study_module
) -> None:
    name = study_module("small_silent")
    text = silent_text(open_study(finished.study).simplex(7, 0))
    expected = "cluster 0 of n_clusters 7 at k=3 is active at none of the 17 tokens. "
    assert said("project", name, "7", "0", text, code=0) == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["5", "0", "a1"], "error study 'small' has no n_clusters 5; it has 6, 7 "),
        (["7", "8", "a1"], "error there is no cluster 8 in n_clusters 7: its ids run from 0 to 6 "),
        (["7", "1", "a1"], "its k has to be given: one of 2, 3, 4 "),
        (["7", "1", "a1", "--k", "5"], "has no models of k=5; it has the ks 2, 3, 4 "),
        (["7", "0", ""], "error the text has no token (''): give it some words "),
    ],
)
def test_mistakes_are_one_sentence(
    finished: Finished, study_module, arguments: list[str], sentence: str
) -> None:
    output = said("project", study_module("small_mistaken"), *arguments, code=1)
    assert output.endswith(sentence)


def test_a_study_that_has_not_been_run_says_what_to_run(study_module) -> None:
    name = study_module("unrun", "name='unrun'")
    output = said("project", name, "7", "1", "a1", "--k", "3", code=1)
    assert "aanet run unrun --until" in output


def test_a_port_that_is_taken_is_one_sentence(finished: Finished, study_module) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        output = said("serve", study_module("small_served"), "--port", str(port), code=1)
    assert output.startswith(f"error 127.0.0.1:{port} cannot be listened on")
    assert "choose a --port" in output


def test_the_page_is_served_until_ctrl_c(
    finished: Finished, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def interrupted(server: Explorer) -> None:
        # Connections wait for whoever serves next: it does listen.
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10):
            asked.append(server.server_port)
        raise KeyboardInterrupt

    monkeypatch.setattr(Explorer, "serve_forever", interrupted)
    output = said("serve", study_module("small_page"), "--port", "0", code=0)
    assert output == f"http://127.0.0.1:{asked[0]} (Ctrl-C stops it) Stopped. "
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", asked[0]), timeout=10)
