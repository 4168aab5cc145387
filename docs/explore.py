# %% [markdown]
# # Exploring a study
#
# A notebook in percent format: open it in VS Code or Jupyter (with jupytext), or run it as a script
# in the project's folder: `python docs/explore.py toy`. Everything comes from the study's DuckDB
# file, which a run replaces and never locks.

# %%
import sys

import duckdb
import matplotlib.pyplot as plt
import pandas as pd

from aanet_assets.science.selection.filters import select_clusters
from aanet_assets.science.selection.verdicts import select_by_table
from aanet_assets.study.layout import StudyPaths, data_root
from aanet_assets.study.settings import BeliefSettings, ControlSettings, SelectionSettings

name = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "toy"
paths = StudyPaths(data_root() / name)
if not paths.database.exists():
    sys.exit(
        f"{paths.database} is not there: set AANET_HOME to the project's folder, or start in it; "
        f"and run `aanet run {name}` first"
    )
database = duckdb.connect(str(paths.database), read_only=True)


def sql(query: str) -> pd.DataFrame:
    """The answer to a query."""
    return database.execute(query).df()


tables = sql("SELECT table_name, estimated_size AS n_rows FROM duckdb_tables() ORDER BY 1")
print(tables.to_string(index=False))

# %% [markdown]
# ## One clustering
# The last one; set `n` to another.

# %%
available = sql("SELECT DISTINCT n_clusters_total AS n FROM selected_clusters ORDER BY n")
if available.empty:
    sys.exit(f"nothing is selected yet: run `aanet run {name}` first")
n = int(available["n"].iloc[-1])
metrics = sql(f"FROM consolidated_metrics WHERE n_clusters_total = {n}")
evidence = sql(f"FROM evidence WHERE n_clusters_total = {n}")

# %% [markdown]
# ## Elbow curves
# Reconstruction losses over k, of the clusters with the strongest elbows.

# %%
falling = sql(f"FROM consolidated_metrics WHERE n_clusters_total = {n} AND recon_elbow_is_falling")
strongest = falling.drop_duplicates("cluster_id").nlargest(8, "aanet_recon_loss_elbow_strength")
figure, axes = plt.subplots()
for cluster_id in strongest["cluster_id"]:
    curve = metrics[metrics["cluster_id"] == cluster_id].sort_values("aanet_k")
    loss = curve["aanet_recon_loss"] / curve["aanet_recon_loss"].max()
    axes.plot(curve["aanet_k"], loss, marker=".", label=str(cluster_id))
axes.set(xlabel="k", ylabel="reconstruction loss (largest = 1)", title=f"{name}, n = {n}")
axes.legend(title="cluster")
plt.show()

# %% [markdown]
# ## Evidence
# Real clusters among null ones: does a simplex fit, and do the latents fire together?

# %%
figure, axes = plt.subplots()
for null_cluster, own in evidence.groupby("null_cluster"):
    label = "null clusters" if null_cluster else "clusters"
    axes.scatter(own["coactivity"], own["simplex_fit"], s=8 if null_cluster else 25, label=label)
axes.axhline(ControlSettings().min_fit, linestyle=":", color="0.5")
axes.set(xlabel="effective number of latents active together", ylabel="fit of the best simplex")
axes.legend()
plt.show()

# %% [markdown]
# ## Other thresholds
# All selections with other settings, without running anything; put what you like into the study.
# The functional one is there where the study asks what the model does (`belief`).

# %%
by_elbows = select_clusters(metrics, SelectionSettings(b_sd=1.5, arch_monotonic=False), n)
limits = {"geometric": (evidence, ControlSettings(min_fit=0.7))}
if "functional_evidence" in set(tables["table_name"]):
    used = sql(f"FROM functional_evidence WHERE n_clusters_total = {n}")
    limits["functional"] = (used, BeliefSettings(min_int_r2=0.8))
found = [select_by_table(mode, t, SelectionSettings(), own, n) for mode, (t, own) in limits.items()]
for selection in (by_elbows, *found):
    print(f"\n{selection.mode}: {len(selection.selected)} clusters")
    print(selection.selected[["cluster_id", "category", "k", "k_source"]].to_string(index=False))
    print(selection.funnel.to_string(index=False))

# %% [markdown]
# ## Words at the vertices

# %%
words = sql(
    f"""SELECT cluster_id, vertex_id, word, count(*) AS times
        FROM (SELECT *, unnest(trigger_text_words) AS word FROM vertex_samples
              WHERE n_clusters_total = {n})
        WHERE word <> ''
        GROUP BY cluster_id, vertex_id, word
        QUALIFY row_number() OVER (PARTITION BY cluster_id, vertex_id
                                   ORDER BY times DESC, word) <= 3
        ORDER BY cluster_id, vertex_id, times DESC"""
)
print(words.to_string(index=False))
