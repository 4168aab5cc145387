"""The review page judges the same doubles as the platform, by the same rules, to the last bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from aanet_assets.review import contents
from aanet_assets.review.page import write_page
from aanet_assets.selection.elbows import FALLING_COLUMNS, is_falling
from aanet_assets.selection.verdicts import select_both
from aanet_assets.study import settings as groups
from aanet_assets.study.settings import SelectionSettings, TrustSettings
from aanet_assets_tests.selection.elbow_tables import NO_ELBOW, elbow_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

N = 40
RECON, ARCH = "aanet_recon_loss_elbow_strength", "aanet_archetypal_loss_elbow_strength"
NEAR = (-1e-9, 0.0, 1e-9)
SELECTION = SelectionSettings(
    mode="calibrated", min_latents=3, d_sd=1 / 3, arch_monotonic=False, min_recon_pct_decrease=12.5
)
TRUST = TrustSettings(min_fit=0.8, max_q=0.0123456789)


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
    falling = {
        column: table[strength].map(is_falling, na_action="ignore")
        for column, strength in zip(FALLING_COLUMNS, (RECON, ARCH), strict=True)
    }
    table["latent_indices"] = table["n_latents"].map(lambda n: list(range(n)))
    ranks = {"decoder_dir_rank": 2, "activation_pca_rank": 2}
    losses = {"aanet_recon_loss": 0.1, "aanet_archetypal_loss": 0.1}
    return table.assign(**ranks, **losses, **falling)


def evidence() -> pd.DataFrame:
    """Fits and q-values on either side of the thresholds, by a billionth and by 4e-5."""
    fits = [0.79996, *(0.8 + by for by in NEAR), 0.9, np.nan]
    qs = [*(TRUST.max_q + by for by in NEAR), 0.01, np.nan]
    return pd.DataFrame(
        {
            "cluster_id": range(N),
            "is_null": False,
            "n_latents": metrics().drop_duplicates("cluster_id")["n_latents"].to_numpy(),
            "coactivity": 2.0,
            "coactivity_q": [qs[i % 5] for i in range(N)],
            "simplex_fit": [fits[i % 6] for i in range(N)],
            "simplex_k": pd.array([None if i % 6 == 5 else 3 for i in range(N)], dtype="Int64"),
            "elbow_k_share": np.nan,
            "elbow_strength_p": np.nan,
        }
    )


def categories(selection: SelectionSettings, trust: TrustSettings, mode: str) -> list[str]:
    verdicts = select_both(metrics(), evidence(), selection, trust, N)[mode].verdicts
    return verdicts["category"].fillna("\u2013").tolist()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    both = select_both(metrics(), evidence(), SELECTION, TRUST, N)
    verdicts = both["calibrated"].verdicts.assign(k=3)
    for mode, own in both.items():
        verdicts[f"{mode}_category"] = own.verdicts["category"]
        verdicts[f"{mode}_reason"] = own.verdicts["reason"]
    page = {
        "summary": "made up",
        "ks": [2, 3, 4, 5, 6, 7, 8],
        **contents.settings(SELECTION, TRUST),
        "clusters": contents.cluster_rows(metrics(), evidence(), verdicts),
        "shapes": {},
        "bands": {"replicates": {}, "null": None},
        "details": {},
    }
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, "made up", page)
    return path


@pytest.fixture
def shown(browser: "Browser", written: Path) -> Iterator["Page"]:
    page, errors = browser.new_page(viewport={"width": 1500, "height": 1400}), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(180_000)
    page.goto(written.as_uri())
    page.locator("#clusters tbody tr").first.wait_for()
    yield page
    assert errors == []
    page.close()


def now(page: "Page") -> list[str]:
    return page.locator("#clusters tbody td:nth-child(3)").all_inner_texts()


def test_a_fit_that_is_0_8_when_rounded_is_not_selected(shown: "Page") -> None:
    assert now(shown) == categories(SELECTION, TRUST, "calibrated")
    assert {"S", "\u2013"} == set(now(shown))
    fits = shown.locator("#clusters tbody td:nth-child(4)").all_inner_texts()
    assert fits[:5] == ["0.79996", "0.799999999", "0.8", "0.800000001", "0.9"]
    for fit in ("0.79996", "0.7999600001", "0.800000001"):
        shown.locator("#min_fit").fill(fit)
        trust = TRUST.model_copy(update={"min_fit": float(fit)})
        assert now(shown) == categories(SELECTION, trust, "calibrated"), fit


def test_the_guides_categories_at_their_very_limits(shown: "Page") -> None:
    shown.locator("[value=guide]").check()
    assert now(shown) == categories(SELECTION, TRUST, "guide")
    limits = select_both(metrics(), evidence(), SELECTION, TRUST, N)["guide"].threshold
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
        assert now(shown) == categories(settings, TRUST, "guide"), changed
        seen.update(now(shown))
    assert seen == {"A", "B", "C", "D", "\u2013"}


def test_thresholds_between_the_steps_are_held_and_copied_exactly(shown: "Page") -> None:
    def copied() -> dict:
        text = shown.locator("#settings").inner_text()
        return eval(f"dict({text})", {name: getattr(groups, name) for name in dir(groups)})

    assert shown.locator("#max_q").input_value() == repr(TRUST.max_q)
    assert copied() == {"selection": SELECTION, "trust": TRUST}
    shown.locator("[value=guide]").check()
    assert float(shown.locator("#d_sd").input_value()) == SELECTION.d_sd
    shown.locator("#a_sd").fill("1e-7")
    shown.locator("#b_sd").fill("250.5")
    expected = SELECTION.model_copy(update={"mode": "guide", "a_sd": 1e-7, "b_sd": 250.5})
    assert copied() == {"selection": expected, "trust": TRUST}


def test_what_the_study_would_refuse_is_marked_and_changes_nothing(shown: "Page") -> None:
    before = now(shown)
    for name, value in (("min_fit", "1.5"), ("max_q", ""), ("min_latents", "2.5")):
        shown.locator(f"#{name}").fill(value)
        assert shown.locator(f"#{name}.wrong").count() == 1, name
    assert now(shown) == before
    shown.locator("#min_fit").fill("0")
    assert shown.locator("#min_fit.wrong").count() == 0


def test_a_slider_beside_the_box_changes_both(shown: "Page") -> None:
    shown.locator("#sliders [type=range]").first.fill("0.9")
    assert shown.locator("#min_fit").input_value() == "0.9"
    trust = TRUST.model_copy(update={"min_fit": 0.9})
    assert now(shown) == categories(SELECTION, trust, "calibrated")


def test_strengths_of_noise_are_clipped_and_counted(shown: "Page") -> None:
    shown.locator("#plot").select_option("elbow strengths, reconstruction against archetypal")
    note = shown.locator("#chart .annotation-text")
    assert note.text_content() == "2 clipped at 0.707: no falling loss is so strong"
    shown.locator("#plot").select_option("elbow strengths of the archetypal loss")
    assert note.text_content() == "1 clipped at 0.707: no falling loss is so strong"
    ends = shown.evaluate("document.getElementById('chart')._fullLayout.xaxis.range")
    assert ends[1] < 1
