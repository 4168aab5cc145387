"""The page is whole, small, and safe from what its texts hold."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aanet_assets.review.contents import bands, exact, number, thinned, vertex_texts
from aanet_assets.review.details import POINTS, POINTS_OF_OTHERS
from aanet_assets.review.functional import TOKENS, TOKENS_OF_OTHERS, functional
from aanet_assets.review.page import read_data, write_page
from aanet_assets.steps.checks.review import check_page
from aanet_assets.steps.review import PAGE, review_page
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, failures
from aanet_assets_tests.conftest import Finished, said
from aanet_assets_tests.review.asked_tables import asked_tables


def test_texts_cannot_end_the_script_that_holds_them(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script> @@PLOTLY@@"
    path = tmp_path / "page.html"
    write_page(path, "<b>title</b>", {"clusters": [{"id": 0}], "text": evil})
    assert read_data(path)["text"].startswith("</script><script>alert(1)")
    assert "<title>&lt;b&gt;title" in path.read_text()
    assert failures(check_page(path, 1)) == {}


def test_768_clusters_fit_into_seven_megabytes(tmp_path: Path, finished: Finished) -> None:
    page = read_data(PAGE.under(finished.study.paths.root, n=7))
    # The page is packed, so that its numbers must be as varied here as they are in truth.
    rng = np.random.default_rng(0)

    def varied(*shape: int) -> list:
        return np.round(rng.uniform(0, 1, shape), 4).tolist()

    def words(n: int) -> str:
        return " ".join(f"{value:.4g}" for value in rng.uniform(0, 1, n))

    one, text = page["clusters"][3], page["details"]["0"]["vertices"][0]
    clusters = [
        {**one, "id": i, "latents": rng.integers(0, 16_384, 21).tolist(), "elbowReason": words(50),
         "geometricReason": words(20), "reconLoss": varied(7), "archLoss": varied(7)}
        for i in range(768)
    ]  # fmt: skip
    details = {
        i: {
            "k": 8,
            "curve": {"steps": 40 * [100], "loss": varied(40)},
            "points": rng.integers(-100, 1_000, (points, 8)).tolist(),
            "vertices": [
                {**more, "latents": [[int(j), float(cosine)] for j, cosine in
                                     zip(rng.integers(0, 16_384, 4), varied(4), strict=True)]}
                for _ in range(8)
            ],
        }
        # Sixty selected ones, and all of eight vertices, the most there are.
        for i in range(768)
        for points, more in [(POINTS, text) if i < 60 else (POINTS_OF_OTHERS, {})]
    }  # fmt: skip
    shapes = {i: [[k, *varied(3)] for k in range(2, 9)] for i in range(768)}
    replicates = {i: varied(2, 7) for i in range(768)}
    asked = functional(asked_tables(2_000), {0})
    asked["clusters"] = {
        i: {
            **asked["clusters"][0],
            "tokens": {
                "points": rng.integers(0, 1_000, (points, 8)).tolist(),
                "p": rng.integers(0, 10_000, (points, 3)).tolist(),
            },
            "doses": [
                {**dose, **{name: varied(11) for name in ("probability", "low", "high", "mixture")}}
                for dose in asked["clusters"][0]["doses"]
            ],
            "chain": {name: varied(8, 8) for name in ("probability", "low", "high")},
        }
        for i in range(768)
        for points in [TOKENS if i < 60 else TOKENS_OF_OTHERS]
    }
    ranges = {"replicates": replicates, "null": varied(3, 7)}
    whole = {**page, "clusters": clusters, "details": details, "shapes": shapes, "bands": ranges,
             "functional": asked}  # fmt: skip
    write_page(tmp_path / "page.html", "large", whole)
    assert failures(check_page(tmp_path / "page.html", 768)) == {}


def test_every_cluster_has_its_simplex_and_selected_ones_their_text(finished: Finished) -> None:
    page = read_data(PAGE.under(finished.study.paths.root, n=7))
    details = {int(i): own for i, own in page["details"].items()}
    best = {c["id"]: c["simplex_k"] for c in page["clusters"] if c["simplex_k"] is not None}
    assert {i: own["k"] for i, own in details.items()} == {**best, 0: 3, 3: 2}
    for i, own in details.items():
        assert len(own["vertices"]) == own["k"]
        assert len(own["points"]) <= (POINTS if i in (0, 3) else POINTS_OF_OTHERS)
        assert {abs(sum(point) - 1000) <= own["k"] for point in own["points"]} <= {True}
        assert {"texts" in vertex for vertex in own["vertices"]} == {i in (0, 3)}
        latents = next(c["latents"] for c in page["clusters"] if c["id"] == i)
        near = [latent for vertex in own["vertices"] for latent, _ in vertex["latents"]]
        assert set(near) <= set(latents)


def test_a_damaged_page_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(path, "t", {"clusters": [{"id": 0}]})
    assert list(failures(check_page(path, 2))) == ["whole"]
    whole = path.read_text()
    start = whole.index(">", whole.index('<script id="data"')) + 1
    for damaged in (
        whole[: start + 20] + "!" + whole[start + 21 :],
        whole[:start] + whole[start + 40 :],
        whole[:start] + "</script>",
        whole.replace('id="data"', ""),
    ):
        path.write_text(damaged)
        assert list(failures(check_page(path, 1))) == ["whole"]
    path.write_text(7_000_000 * "x")
    assert list(failures(check_page(path, 1))) == ["whole", "size"]


def test_a_page_of_other_clusters_is_seen(copied: Study) -> None:
    page = review_page.at(n=7)
    assert complaints(copied, page) == {}
    write_page(PAGE.under(copied.paths.root, n=7), "t", {"clusters": [{"id": 0}]})
    assert list(complaints(copied, page)) == ["whole"]


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_page(tmp_path / name, "t", {"clusters": []})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_numbers_are_short_and_what_is_missing_is_null() -> None:
    assert [number(v) for v in (1 / 3, np.int64(7), np.nan, pd.NA, None, np.inf)] == [
        0.3333, 7, None, None, None, None,
    ]  # fmt: skip


def test_numbers_that_are_compared_keep_every_digit() -> None:
    values = (0.79996, 1 / 3, np.float64(0.1) + 0.2, np.int64(7), np.nan, pd.NA, None, np.inf, True)
    found = [exact(v) for v in values]
    assert found == [0.79996, 1 / 3, 0.1 + 0.2, 7, None, None, None, None, 1]
    assert json.loads(json.dumps(found)) == found


def test_a_curve_keeps_its_ends() -> None:
    curve = thinned(list(range(1, 901)))
    assert (curve["steps"][0], curve["steps"][-1], curve["loss"][-1]) == (1, 900, 900)
    assert len(curve["steps"]) == 40
    assert thinned([3.0, 2.0])["steps"] == [1, 2]


def test_bands_are_ranges_of_replicates_and_quantiles_of_nulls() -> None:
    rows = [
        (False, 0, r, k, loss)
        for r, curve in enumerate(([4, 2], [8, 2]))
        for k, loss in zip((2, 3), curve, strict=True)
    ]
    rows += [(True, i, 0, k, loss) for i in range(11) for k, loss in ((2, 10), (3, i))]
    columns = ["null_cluster", "cluster_id", "replicate", "k", "aanet_recon_loss"]
    found = bands(pd.DataFrame(rows, columns=columns), [2, 3])
    assert found["replicates"] == {0: [[1, 0.25], [1, 0.5]]}
    assert found["null"] == [[1, 0.1], [1, 0.5], [1, 0.9]]
    assert bands(None, [2, 3]) == {"replicates": {}, "null": None}


def samples_of(*rows: tuple[int, str, list[str], Sequence[tuple[int, int] | None], float]):
    """Rows of a vertex: its number, text, trigger tokens with their places, smallest distance."""
    return pd.DataFrame(
        {
            "vertex_id": vertex,
            "full_text": text,
            "trigger_words": tokens,
            # As a table gives them back: what is null in a list of numbers is NaN.
            "trigger_token_starts": np.array([p[0] if p else np.nan for p in places]),
            "trigger_token_ends": np.array([p[1] if p else np.nan for p in places]),
            "distances_to_vertex": [distance for _ in tokens],
        }
        for vertex, text, tokens, places, distance in rows
    )


def test_the_texts_of_a_vertex_are_the_nearest_with_their_tokens_marked() -> None:
    text = " ".join(f"w{i:02}" for i in range(60))
    samples = samples_of(
        (0, "near w20", [" w20"], [(4, 8)], 0.1),
        (0, text, [" w20", " w21"], [(79, 83), (83, 87)], 0.02),
        (1, "x", ["x"], [(0, 1)], 0.0),
    )
    found = vertex_texts(samples, 0)
    assert (found["samples"], found["tokens"]) == (2, [["␣w20", 2], ["␣w21", 1]])
    first, second = found["texts"]
    assert [part for part, marked in first if marked] == [" w20", " w21"]
    assert "".join(part for part, _ in first) == f"{text[:163]}…"
    assert second == [["near", 0], [" w20", 1]]


def test_white_space_tokens_are_shown_as_such() -> None:
    text = "the cat\n\nthe\u3000dog"
    places = [(7, 8), (8, 9), (12, 13)]
    samples = samples_of((0, text, ["\n", "\n", "\ufffd"], places, 0.1))
    found = vertex_texts(samples, 0)
    assert found["tokens"] == [["↵", 2], ["␣U+3000", 1]]
    (parts,) = found["texts"]
    assert parts == [
        ["the cat", 0], ["↵", 1], ["↵", 1], ["the", 0], ["␣U+3000", 1], ["dog", 0],
    ]  # fmt: skip


def test_text_without_spaces_is_cut_by_characters() -> None:
    text = "日本語の文章には空白がない。" * 20
    samples = samples_of(
        (0, text, ["\ufffd", "\ufffd", "文章"], [(130, 131)] * 2 + [(144, 146)], 0.1)
    )
    found = vertex_texts(samples, 0)
    assert found["tokens"] == [[text[130], 2], ["文章", 1]]
    (parts,) = found["texts"]
    assert [part for part, marked in parts if marked] == [text[130], text[144:146]]
    assert "".join(part for part, _ in parts) == f"…{text[50:211]}…"


def test_a_token_without_a_place_is_not_marked_anywhere() -> None:
    found = vertex_texts(samples_of((0, "don't", ["n't"], [None], 0.1)), 0)
    assert found["tokens"] == [["n't", 1]]
    (parts,) = found["texts"]
    assert not any(marked for _, marked in parts)
    assert "is not known" in parts[-1][0]


def test_the_command_says_where_the_page_is(
    finished: Finished, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    name = study_module("small_reviewed")
    page = PAGE.under(finished.study.paths.root, n=7).as_uri()
    assert page in said("review", name, code=0).replace(" ", "")
    assert opened == [page]
    assert PAGE.under(finished.study.paths.root, n=6).as_uri() in said(
        "review", name, "--n-clusters", "6", code=0
    ).replace(" ", "")
    assert "n_clusters (6, 7), not 9" in said("review", name, "--n-clusters", "9", code=1)
    empty = study_module("small_unreviewed", "name='unreviewed'")
    assert "there is no review page yet" in said("review", empty, code=1)
