"""The review page judges the same doubles as the platform, by the same rules, to the last bit."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
import pytest

from aanet_assets.review import contents
from aanet_assets.review.page import write_page
from aanet_assets.science.selection.filters import Selection
from aanet_assets.science.selection.rules import MODES, Category, Mode, Rule
from aanet_assets.science.selection.verdicts import select_all, verdict_tables
from aanet_assets.study import settings as groups
from aanet_assets.study.settings import BeliefSettings, ControlSettings, SelectionSettings
from aanet_assets_tests.science.selection.elbow_tables import NO_ELBOW, elbow_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

T = TypeVar("T", SelectionSettings, ControlSettings, BeliefSettings)
N = 40
RECON, ARCH = "aanet_recon_loss_elbow_strength", "aanet_archetypal_loss_elbow_strength"
NEAR = (-1e-9, 0.0, 1e-9)
SELECTION = SelectionSettings(
    mode="geometric", min_latents=3, d_sd=1 / 3, arch_monotonic=False, min_recon_pct_decrease=12.5
)
CONTROLS = ControlSettings(min_fit=0.8, max_q=0.0123456789)
BELIEF = BeliefSettings(max_context=0.0123456789, seed=7, tokens=1_000)


def metrics() -> pd.DataFrame:
    """Strengths of all kinds, falls on either side of 12.5%, noise, and one without elbows."""
    rng = np.random.default_rng(0)
    elbows = [
        {
            "n_latents": int(rng.integers(2, 6)),
            RECON: float(rng.uniform(0.2, 0.6)),
            ARCH: float(rng.uniform(0.2, 0.6)),
            "recon_pct_decrease": 12.5 + NEAR[i % 3],
            "k_differential": i % 2,
        }
        for i in range(N)
    ]
    # Equal strengths, whose sum over their number is not the strength itself.
    for own in elbows[10:16]:
        own.update({RECON: 0.1, ARCH: 0.7})
    elbows[3] = NO_ELBOW
    elbows[4].update({ARCH: 710.3, "arch_is_monotonic": False, "recon_pct_decrease": 80.0})
    elbows[7].update({RECON: 8.5, "recon_pct_decrease": 80.0})
    table = elbow_table(elbows, N).sort_values(["cluster_id", "aanet_k"])
    table["latent_indices"] = [list(range(n)) for n in table["n_latents"]]
    ranks = {"decoder_dir_rank": table["cluster_id"] % 4, "activation_pca_rank": 2}
    losses = {"aanet_recon_loss": 0.1, "aanet_archetypal_loss": 0.1}
    return table.assign(**ranks, **losses)


def evidence() -> pd.DataFrame:
    """Fits and q-values on either side of the thresholds, by a billionth and by 4e-5."""
    fits = [0.79996, *(0.8 + by for by in NEAR), 0.9, np.nan]
    qs = [*(CONTROLS.max_q + by for by in NEAR), 0.01, np.nan]
    return pd.DataFrame(
        {
            "cluster_id": range(N),
            "null_cluster": False,
            "n_latents": metrics().drop_duplicates("cluster_id")["n_latents"].to_numpy(),
            "coactivity": 2.0,
            "coactivity_q": [qs[i % 5] for i in range(N)],
            "simplex_fit": [fits[i % 6] for i in range(N)],
            "simplex_k": pd.array([None if i % 6 == 5 else 3 for i in range(N)], dtype="Int64"),
            "replicates": [i % 3 for i in range(N)],
        }
    )


def functional() -> pd.DataFrame:
    """Each statistic on either side of its limit in some clusters; one cluster has none at all."""
    own = dict(BELIEF)
    limits = {name.split("_", 1)[1]: own[name] for name in own if name.startswith(("min_", "max_"))}
    table = pd.DataFrame(
        {
            name: [limit if i // 3 % 6 != place else limit + NEAR[i % 3] for i in range(N)]
            for place, (name, limit) in enumerate(limits.items())
        }
    )
    table.loc[5] = np.nan
    table.loc[6, "two_step_r2"] = np.nan
    said = ["too few tokens" if i == 5 else "" for i in range(N)]
    latents = metrics().drop_duplicates("cluster_id")["n_latents"].to_numpy()
    return table.assign(
        cluster_id=range(N), null_cluster=False, n_latents=latents, k=3, unavailable=said
    )


def selected(
    selection: SelectionSettings = SELECTION,
    controls: ControlSettings = CONTROLS,
    belief: BeliefSettings | None = BELIEF,
) -> dict[str, Selection]:
    used = None if belief is None else (functional(), belief)
    return select_all(metrics(), evidence(), selection, controls, N, used)


def categories(
    selection: SelectionSettings,
    controls: ControlSettings,
    mode: str,
    belief: BeliefSettings = BELIEF,
) -> list[str]:
    verdicts = selected(selection, controls, belief)[mode].verdicts
    return verdicts["category"].fillna("\u2013").tolist()


def write(path: Path, belief: BeliefSettings | None = BELIEF) -> Path:
    verdicts, _ = verdict_tables(selected(belief=belief), "geometric")
    page = {
        "summary": "made up",
        "ks": [2, 3, 4, 5, 6, 7, 8],
        **contents.settings(SELECTION, CONTROLS, belief),
        "clusters": contents.cluster_rows(
            metrics(), evidence(), functional() if belief else None, verdicts
        ),
        "shapes": {},
        "bands": {"replicates": {}, "null": None},
        "details": {},
    }
    write_page(path, "made up", page)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Callable[[Path], "Page"]]:
    page, errors = browser.new_page(viewport={"width": 1500, "height": 1400}), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(180_000)

    def opening(path: Path) -> "Page":
        page.goto(path.as_uri())
        page.locator("#clusters tbody tr").first.wait_for()
        return page

    yield opening
    assert errors == []
    page.close()


@pytest.fixture
def shown(opened: Callable[[Path], "Page"], written: Path) -> "Page":
    return opened(written)


def now(page: "Page") -> list[str]:
    return page.locator("#clusters tbody td:nth-child(3)").all_inner_texts()


def test_a_fit_that_is_0_8_when_rounded_is_not_selected(shown: "Page") -> None:
    assert now(shown) == categories(SELECTION, CONTROLS, "geometric")
    assert {"S", "\u2013"} == set(now(shown))
    fits = shown.locator("#clusters tbody td:nth-child(4)").all_inner_texts()
    assert fits[:5] == ["0.79996", "0.799999999", "0.8", "0.800000001", "0.9"]
    for fit in ("0.79996", "0.7999600001", "0.800000001"):
        shown.locator("#min_fit").fill(fit)
        controls = CONTROLS.model_copy(update={"min_fit": float(fit)})
        assert now(shown) == categories(SELECTION, controls, "geometric"), fit


def test_the_elbow_modes_categories_at_their_very_limits(shown: "Page") -> None:
    shown.locator("[value=elbow]").check()
    assert now(shown) == categories(SELECTION, CONTROLS, "elbow")
    limits = selected()["elbow"].threshold
    table = metrics().drop_duplicates("cluster_id")
    seen, cases = set(), []
    for i in (6, 10, 22):
        at = (table[RECON].iloc[i] - limits["recon_mean"]) / limits["recon_sd"]
        cases += [{"b_sd": float(at + by)} for by in NEAR]
        at = (table[ARCH].iloc[i] - limits["arch_mean"]) / limits["arch_sd"]
        cases += [{"c_sd": float(at + by), "d_sd": float(at - by)} for by in NEAR]
    cases += [
        {"recon_monotonic": False},
        {"arch_monotonic": True, "b_sd": 0.0},
        {"min_recon_pct_decrease": 12.500000001, "a_sd": -0.5},
        {"min_latents": 1, "max_k_differential": 0, "d_sd": 0.0, "recon_monotonic": True},
    ]
    changed = {}
    for case in cases:
        for name, value in case.items():
            if isinstance(value, bool):
                shown.locator(f"#{name}").set_checked(value)
            else:
                shown.locator(f"#{name}").fill(repr(value))
        changed |= case
        settings = SELECTION.model_copy(update=changed)
        assert now(shown) == categories(settings, CONTROLS, "elbow"), changed
        seen.update(now(shown))
    assert seen == {"A", "B", "C", "D", "\u2013"}


def test_the_functional_modes_limits_by_a_billionth(shown: "Page") -> None:
    shown.locator("[value=functional]").check()
    assert now(shown) == categories(SELECTION, CONTROLS, "functional")
    assert {"F", "\u2013"} == set(now(shown))
    seen = set()
    for name in MODES["functional"].settings[1:]:
        limit = getattr(BELIEF, name)
        for value in (limit + by for by in NEAR):
            shown.locator(f"#{name}").fill(repr(value))
            belief = BELIEF.model_copy(update={name: value})
            assert now(shown) == categories(SELECTION, CONTROLS, "functional", belief), (
                name,
                value,
            )
            seen.add((name, tuple(now(shown))))
        shown.locator(f"#{name}").fill(repr(limit))
    assert len(seen) >= 12, "each limit turns clusters down on one side and lets them in on another"
    shown.locator("#plot").select_option("mixtures of predictions against mixtures under edits")
    drawn = shown.evaluate("document.getElementById('chart').data[0].customdata")
    assert drawn == [i for i in range(N) if i != 5]
    assert shown.evaluate("document.getElementById('chart').layout.shapes.length") == 2
    shown.locator("[data-cluster='5']").click()
    panel = shown.locator("#cluster").inner_text()
    assert "functional: not selected (kl_explained is not known: too few tokens)" in panel
    shown.locator("#filter").fill("two operators after them")
    assert shown.locator("#clusters tbody tr").count() == 1


def test_without_belief_there_is_no_third_mode(
    opened: Callable[[Path], "Page"], tmp_path: Path
) -> None:
    page = opened(write(tmp_path / "page.html", belief=None))
    modes = page.locator("[name=mode]").evaluate_all("inputs => inputs.map(i => i.value)")
    assert modes == ["elbow", "geometric"]
    assert now(page) == categories(SELECTION, CONTROLS, "geometric")
    assert "BeliefSettings" not in page.locator("#settings").inner_text()
    assert "edits" not in page.locator("#overview, #clusters thead").all_inner_texts()
    page.locator("#clusters tbody tr").first.click()
    assert "functional" not in page.locator("#cluster").inner_text()


def test_thresholds_between_the_steps_are_held_and_copied_exactly(shown: "Page") -> None:
    def copied() -> dict:
        text = shown.locator("#settings").inner_text()
        return eval(f"dict({text})", {name: getattr(groups, name) for name in dir(groups)})

    assert shown.locator("#max_q").input_value() == repr(CONTROLS.max_q)
    assert copied() == {"selection": SELECTION, "controls": CONTROLS, "belief": BELIEF}
    shown.locator("[value=elbow]").check()
    assert float(shown.locator("#d_sd").input_value()) == SELECTION.d_sd
    shown.locator("#a_sd").fill("1e-7")
    shown.locator("#b_sd").fill("250.5")
    expected = SELECTION.model_copy(update={"mode": "elbow", "a_sd": 1e-7, "b_sd": 250.5})
    assert copied() == {"selection": expected, "controls": CONTROLS, "belief": BELIEF}
    shown.locator("[value=functional]").check()
    shown.locator("#min_moved").fill("1e-9")
    expected = expected.model_copy(update={"mode": "functional"})
    belief = BELIEF.model_copy(update={"min_moved": 1e-9})
    assert copied() == {"selection": expected, "controls": CONTROLS, "belief": belief}


def test_what_the_study_would_refuse_is_marked_and_changes_nothing(shown: "Page") -> None:
    before = now(shown)
    for name, value in (("min_fit", "1.5"), ("max_q", ""), ("min_latents", "2.5")):
        shown.locator(f"#{name}").fill(value)
        assert shown.locator(f"#{name}.wrong").count() == 1, name
    assert now(shown) == before
    shown.locator("#min_fit").fill("0")
    assert shown.locator("#min_fit.wrong").count() == 0


def test_a_slider_beside_the_box_changes_both(shown: "Page") -> None:
    shown.locator("label:has(#min_fit) [type=range]").fill("0.9")
    assert shown.locator("#min_fit").input_value() == "0.9"
    controls = CONTROLS.model_copy(update={"min_fit": 0.9})
    assert now(shown) == categories(SELECTION, controls, "geometric")


def test_strengths_of_noise_are_clipped_and_counted(shown: "Page") -> None:
    shown.locator("#plot").select_option("elbow strengths, reconstruction against archetypal")
    note = shown.locator("#chart .annotation-text")
    assert note.text_content() == "2 clipped at 0.707: no falling loss is so strong"
    shown.locator("#plot").select_option("elbow strengths of the archetypal loss")
    assert note.text_content() == "1 clipped at 0.707: no falling loss is so strong"
    ends = shown.evaluate("document.getElementById('chart')._fullLayout.xaxis.range")
    assert ends[1] < 1


def without(mode: Mode, *columns: str) -> Mode:
    return mode._replace(rules=tuple(rule for rule in mode.rules if rule.column not in columns))


REPEATED = Rule("replicates", ">=", "max_k_differential", "{limit} of them", "{value} < {limit}")
RANKED = Rule("decoder_dir_rank", "<=", "min_latents", "rank {limit}", "{value} > {limit}")
ABOVE = Category("B", (("arch", "b_sd"), ("recon", "b_sd")), False, "{recon}, {arch}")


@pytest.mark.parametrize(
    ("mode", "declared", "setting", "values"),
    [
        ("geometric", lambda mode: without(mode, "coactivity_q"), "min_fit", (0.8, 0.800000001)),
        (
            "geometric",
            lambda mode: mode._replace(rules=(REPEATED, *mode.rules)),
            "max_k_differential",
            (0, 1, 2, 3),
        ),
        (
            "functional",
            lambda mode: without(mode, "two_step_r2", "context"),
            "min_int_r2",
            (0.9, 0.900000001),
        ),
        ("elbow", lambda mode: without(mode, "recon_pct_decrease"), "b_sd", (0, 0.5)),
        # Not even asked whether there are elbows, or how far apart.
        ("elbow", lambda mode: mode._replace(rules=(RANKED,)), "min_latents", (1, 2, 3)),
        (
            "elbow",
            lambda mode: mode._replace(categories=(ABOVE, *mode.categories[1:])),
            "b_sd",
            (-1, 0, 0.3),
        ),
        (
            "elbow",
            lambda mode: mode._replace(
                strengths={
                    name: own._replace(most=0.4, switch="arch_monotonic")
                    for name, own in mode.strengths.items()
                }
            ),
            "d_sd",
            (-0.5, 0),
        ),
        # All clusters that pass are in a category without a test.
        (
            "elbow",
            lambda mode: mode._replace(categories=(*mode.categories, Category("P", (), False, ""))),
            "max_k_differential",
            (0, 1),
        ),
    ],
    ids=[
        "less",
        "more",
        "less_of_use",
        "less_of_elbows",
        "one",
        "category",
        "strengths",
        "untested",
    ],
)
def test_the_page_follows_the_declaration(
    opened: Callable[[Path], "Page"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    declared: Callable[[Mode], Mode],
    setting: str,
    values: tuple[float, ...],
) -> None:
    def expected(value: float) -> list[str]:
        def of(own: T) -> T:
            known = setting in type(own).model_fields
            return own.model_copy(update={setting: value}) if known else own

        return categories(of(SELECTION), of(CONTROLS), mode, of(BELIEF))

    before = [expected(value) for value in values]
    monkeypatch.setitem(MODES, mode, declared(MODES[mode]))
    after = [expected(value) for value in values]
    assert before != after, "so that a page with rules of its own would be seen"
    page = opened(write(tmp_path / "page.html"))
    page.locator(f"[value={mode}]").check()
    for value, categories_now in zip(values, after, strict=True):
        page.locator(f"#{setting}").fill(repr(value))
        assert now(page) == categories_now, value


def test_the_page_has_no_control_of_a_rule_that_is_gone(
    opened: Callable[[Path], "Page"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened(write(tmp_path / "all.html"))
    names = "#sliders label > input[id]"
    all_of_them = page.locator(names).evaluate_all("inputs => inputs.map(input => input.id)")
    assert all_of_them == ["min_latents", "max_q", "min_fit"]
    fewer = without(MODES["geometric"], "coactivity_q", "n_latents")
    monkeypatch.setitem(MODES, "geometric", fewer)
    page = opened(write(tmp_path / "fewer.html"))
    assert page.locator(names).evaluate_all("inputs => inputs.map(i => i.id)") == ["min_fit"]


def test_controls_have_the_kinds_and_bounds_of_the_settings(shown: "Page") -> None:
    shown.locator("[value=elbow]").check()
    for name, *expected in (
        ("min_latents", "1", "", "1"),
        ("max_k_differential", "0", "", "1"),
        ("min_recon_pct_decrease", "0", "100", "0.5"),
        ("b_sd", "", "", "0.05"),
    ):
        box = shown.locator(f"#{name}")
        assert [box.get_attribute(of) or "" for of in ("min", "max", "step")] == expected, name
    for name in ("recon_monotonic", "arch_monotonic"):
        assert shown.locator(f"#{name}").get_attribute("type") == "checkbox"
    assert shown.locator("#sliders label").count() == 10
    shown.locator("[value=functional]").check()
    for name, *expected in (
        ("min_int_r2", "", "1", "0.005"),
        ("max_context", "0", "1", "0.005"),
        ("min_moved", "0", "", "0.02505"),
    ):
        box = shown.locator(f"#{name}")
        assert [box.get_attribute(of) or "" for of in ("min", "max", "step")] == expected, name
    assert shown.locator("#sliders label").count() == 7
