"""What the model predicts over each cluster's simplex, token by token: for the review page."""

from aanet_assets.steps.belief import placed_clusters
from aanet_assets.steps.columns import CLUSTER_ID, N_CLUSTERS_TOTAL
from aanet_assets.steps.edits import edit_step, editor_of
from aanet_assets.steps.predictions import TOKEN_GROUPS
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome
from aanet_assets.storage.table import Table, integer, listed, number, text

SIMPLEX_TOKENS = Table(
    "simplex_tokens",
    "Some held-out tokens of each cluster: where they lie in its simplex, and what they predict.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    integer("token_id", "Id of the token."),
    listed(number("coordinates", "Barycentric coordinates, as probabilities.")),
    listed(number("probabilities", "Of the next tokens in dose_response, by their rank.")),
)
DOSE_RESPONSE = Table(
    "dose_response",
    "Next-token probabilities as one vertex's coordinate takes the place of another's.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    integer("rank", "Of the next tokens, by how much their probability varies; from 0 on."),
    integer("group_id", "Group of the next token."),
    text("next_token", "The next token; of a group of several the most frequent one."),
    integer("group_tokens", "Tokens of the group."),
    number("variance", "Variance of its probability over tokens of the cluster."),
    integer("from_vertex", "Vertex at which it is least likely, put in the place of tokens' own."),
    integer("to_vertex", "Vertex at which it is most likely."),
    number("coordinate", "Coordinate of that vertex; that of the first is the rest."),
    number("probability", "Predicted probability, mean over edited tokens."),
    number("low", "What 10% of the edited tokens lie below."),
    number("high", "What 10% of them lie above."),
    number("mixture", "What a mixture of both vertices gives: the straight line between them."),
)


@edit_step(SIMPLEX_TOKENS, DOSE_RESPONSE, settings=("belief.edited_tokens",))
def simplex_responses(run: Run[ByN]) -> Outcome:
    """Next-token probabilities over the simplex of each cluster, for the review page to draw.

    Those that vary most over the cluster's tokens: at held-out tokens as they are, and along the
    edge that changes each most, put in the place of what the cluster writes.
    """
    import pandas as pd

    from aanet_assets.science.activations.corpus import load_tokenizer
    from aanet_assets.science.belief.responses import Spelling, responses

    heldout, simplices, _ = placed_clusters(run)
    vocabulary, tokenizer = run.read(TOKEN_GROUPS), load_tokenizer(run.study)
    by_count = vocabulary.sort_values(["training_tokens", "token_id"], ascending=[False, True])
    groups = by_count.groupby("group_id")["token_id"]

    def spelled(group: int) -> Spelling:
        ids = groups.get_group(group).tolist()
        return Spelling(str(tokenizer.decode([ids[0]])) or f"token {ids[0]}", len(ids))

    editor = editor_of(run, heldout)
    found = responses(heldout, simplices, run.study.belief_settings, editor, spelled)
    files = []
    for table, rows in zip((SIMPLEX_TOKENS, DOSE_RESPONSE), found, strict=True):
        names = [name for name in table.names if name != "n_clusters_total"]
        frame = pd.DataFrame(rows, columns=names).assign(n_clusters_total=run.at.n)
        files.append(run.write(table, frame))
    return Outcome(files, {"dagster/row_count": len(found.doses)})


@simplex_responses.checks(
    complete="Every cluster with tokens has a response for each of their probabilities.",
    ranges="Probabilities and coordinates lie between 0 and 1, and coordinates sum to 1.",
)
def _(run: Run[ByN]) -> list[Finding]:
    import numpy as np

    tokens, doses = run.read(SIMPLEX_TOKENS), run.read(DOSE_RESPONSE)
    wanted = tokens.groupby("cluster_id")["probabilities"].agg(lambda own: max(map(len, own)))
    there = doses.groupby("cluster_id")["rank"].nunique().reindex(wanted.index, fill_value=0)
    lacking = int((there != wanted).sum())
    known = doses[["coordinate", "probability", "low", "high", "mixture"]].to_numpy(np.float64)
    values = [*known, *tokens["coordinates"], *tokens["probabilities"]]
    outside = sum(bool(((row < -1e-6) | (row > 1 + 1e-6) | np.isnan(row)).any()) for row in values)
    apart = sum(abs(b.sum() - 1) > 1e-6 for b in tokens["coordinates"])
    return [
        Finding("complete", not lacking, f"{lacking} clusters lack responses; none may"),
        Finding("ranges", not (outside or apart),
                f"{outside} rows lie outside 0 to 1, and coordinates of {apart} tokens do not sum "
                "to 1; none may"),
    ]  # fmt: skip
