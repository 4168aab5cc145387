"""The shipped toy, whole: what the README promises of it. Takes minutes."""

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from aanet_assets.defs import toy
from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.storage import warehouse


def asked(sql: str) -> pd.DataFrame:
    return warehouse.query(toy.study.paths, tables_of(toy.study), sql).df()


@pytest.mark.slow
def test_the_toys_simplices_are_found(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        driver = Driver(toy.study, instance)
        for partition in plan(toy.study, n_clusters=[7]):
            driver.materialise(partition)
    recovery = asked("FROM recovery WHERE n_clusters_total = 7")
    assert len(recovery) == 7
    assert recovery["r2"].mean() >= 0.93
    assert recovery["leak"].max() <= 0.10
    triangles = recovery[recovery["kind"] == "mess3"]
    assert len(triangles) == 3
    assert (triangles["recon_elbow_k"] == 3).all()
    assert triangles["barycentric_r2"].min() >= 0.95
    assert triangles["vertex_purity"].min() >= 0.9
    verdicts = asked(
        """SELECT component, kind, true_k, s.category, s.geometric_category, s.k
           FROM recovery JOIN selected_clusters s USING (n_clusters_total, cluster_id)
           WHERE n_clusters_total = 7"""
    )
    decoys = verdicts["kind"] == "tom_quantum"
    for category, of in (("F", "category"), ("S", "geometric_category")):
        assert verdicts[decoys][of].isna().all()
        assert (verdicts[~decoys][of] == category).all()
    assert (verdicts[~decoys]["k"] == verdicts[~decoys]["true_k"]).all()
    for cluster_id in triangles["cluster_id"]:
        stats = asked(f"FROM vertex_stats WHERE n_clusters_total = 7 AND cluster_id = {cluster_id}")
        assert len(stats) == 3, "selected, at its true k"
        assert stats["reached_target"].all()
