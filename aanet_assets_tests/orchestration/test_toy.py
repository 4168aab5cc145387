"""The shipped toy, whole: what the README promises of it. Takes minutes."""

from pathlib import Path

import dagster as dg
import pytest

from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.storage import warehouse
from aanet_assets.studies import toy


@pytest.mark.slow
def test_the_toys_simplices_are_found(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        driver = Driver(toy.study, toy.defs, instance)
        for partition in plan(toy.study, n_clusters=[7]):
            driver.materialise(partition)
    recovery = warehouse.query(toy.study.paths, "FROM recovery WHERE n_clusters_total = 7").df()
    assert len(recovery) == 7
    assert recovery["r2"].mean() >= 0.93
    assert recovery["leak"].max() <= 0.10
    triangles = recovery[recovery["kind"] == "mess3"]
    assert len(triangles) == 3
    assert (triangles["recon_elbow_k"] == 3).all()
    assert triangles["barycentric_r2"].min() >= 0.95
    assert triangles["vertex_purity"].min() >= 0.9
    verdicts = warehouse.query(
        toy.study.paths,
        """SELECT component, kind, true_k, s.category, s.k
           FROM recovery JOIN selected_clusters s USING (n_clusters_total, cluster_id)
           WHERE n_clusters_total = 7""",
    ).df()
    decoys = verdicts["kind"] == "tom_quantum"
    assert verdicts[decoys]["category"].isna().all()
    assert (verdicts[~decoys]["category"] == "S").all()
    assert (verdicts[~decoys]["k"] == verdicts[~decoys]["true_k"]).all()
    for cluster_id in triangles["cluster_id"]:
        stats = warehouse.query(
            toy.study.paths,
            f"FROM vertex_stats WHERE n_clusters_total = 7 AND cluster_id = {cluster_id}",
        ).df()
        assert len(stats) == 3, "selected, at its true k"
        assert stats["reached_target"].all()
