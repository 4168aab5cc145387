"""The summary at the end of a run, where nothing was selected."""

import io
import re

from rich.console import Console

from aanet_assets.cli.report import print_report
from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.storage import warehouse
from aanet_assets.study.settings import ControlSettings, SelectionSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import change


def printed(study: Study) -> str:
    for n in study.n_clusters:
        partition = selected_clusters.at(n=n)
        change(study, partition, SELECTED_CLUSTERS, lambda table: table.assign(selected=False))
    warehouse.update(study.paths, tables_of(study))
    text = io.StringIO()
    print_report(study, Console(file=text, width=240))
    return re.sub(r"\s+", " ", text.getvalue())


def test_an_empty_selection_prints_the_funnel_and_what_to_try(copied: Study) -> None:
    selection = SelectionSettings(min_recon_pct_decrease=100)
    output = printed(copied.model_copy(update={"selection": selection}))
    assert "No cluster was selected." in output
    for n in (6, 7):
        assert f"What each filter of the elbow mode turned away, n_clusters {n}" in output
        assert f"No cluster of n_clusters {n} is selected. 0 of {n} pass the quality" in output
    assert re.search(r"recon loss falls by >= 100% │ \d │ 0", output)
    assert "Or pick by hand: selection.manual_clusters = '7:0,1'." in output
    assert "Of the other modes, selection.mode = 'geometric' would select" in output


def test_of_the_mode_in_use(copied: Study) -> None:
    settings = {
        "selection": SelectionSettings(mode="geometric"),
        "controls": ControlSettings(max_q=0),
    }
    output = printed(copied.model_copy(update=settings))
    assert "What each filter of the geometric mode turned away, n_clusters 6" in output
    assert re.search(r"latents fire together \(q <= 0\) │ \d │ 0", output)
    assert "Relax controls.max_q, which turns down the most." in output
