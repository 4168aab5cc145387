"""What the checks of each step make sure of: known, for Dagit, before anything is run."""

from collections.abc import Mapping

BLOCKING: Mapping[str, Mapping[str, str]] = {
    "corpus": {
        "complete": "There are as many documents as all shards together ask for.",
        "letters": "Documents have one chunk's letters, and no word that is not a letter.",
    },
    "language_model": {"predicts": "The model predicts English text far better than chance."},
    "prose": {"documents": "Documents have text, and no two are equal."},
    "sae": {"reconstructs": "The SAE explains half of the variance of fresh tokens, or more."},
    "sae_fit": {
        "active_latents": "As many latents are active per token as the settings allow.",
        "explains": "The reconstruction leaves no more variance than the settings allow.",
        "explains_most_tokens": "Nor does it leave more of the median token.",
        "is_the_reconstruction": "Codes times decoder rows is the reconstruction.",
        "right_layer": "No layer beside the SAE's own fits clearly better.",
    },
    "activation_cache": {
        "structure": "The file can be read and its arrays fit together.",
        "special_tokens_silent": "BOS and other special tokens carry no codes.",
        "codes_in_range": "Codes are finite and not below the threshold of activity.",
        "active_latents": "Some latents are active per token, and few enough to be sparse.",
    },
    "clustering": {
        "labels": "Every latent has one label: a cluster's number, or -1 for none.",
        "usable_latents_only": "A latent has no cluster if, and only if, it never fires, fires too "
        "rarely or repeats another.",
        "sizes": "Every cluster has a basis, and coordinates for each of its latents.",
        "bases": "Bases are orthonormal and coordinates finite.",
    },
    "cluster_rows": {
        "complete": "Every cluster has its rows and its line in the table.",
        "rows_finite": "Rows and extrema are finite.",
        "row_widths": "Rows are as wide as their cluster's basis.",
        "row_counts": "There are as many training and held-out rows as the settings ask for.",
    },
    "aanet_models": {
        "complete": "Every cluster has a status.",
        "weights_finite": "Trained models have finite weights; the others have a reason.",
        "some_trained": "Training did not fail for every cluster that has rows enough.",
    },
    "aanet_exports": {
        "exported": "Every trained model, and no other, has its .pt file; none, where they are "
        "switched off.",
    },
    "aanet_metrics": {
        "complete": "Every cluster has one row.",
        "losses": "Losses are not negative, and are there where training succeeded.",
        "shares": "Shares and explained variances are in range.",
    },
    "consolidated_metrics": {
        "complete": "Every cluster has one row at every k.",
        "losses": "Losses are not negative, and are there where training succeeded.",
        "elbows": "Every elbow lies at one of the ks and has a strength.",
        "shares": "Shares, percentages and explained variances are in range.",
        "csv": "The CSV file begins with the guide's columns and equals the table.",
        "curves": "The training curves have one line per cluster and k.",
    },
    "analysis_plots": {"drawn": "The five plots are PNG files that show something."},
    "null_clusters": {
        "matched": "Every shuffle has, cluster by cluster, the sizes of the real clusters.",
        "rows": "Every null cluster has rows, and they are finite.",
    },
    "cluster_shapes": {
        "chance": "There are as many chance groups as the study asks for.",
        "complete": "Every cluster, real or null, is there once per k.",
        "ranges": "Shares and coactivities are in range.",
    },
    "replicates": {
        "complete": "Every cluster, and as many null clusters, have all of their replicates.",
        "losses": "Losses are there where training succeeded, and are not negative.",
    },
    "evidence": {
        "complete": "Every cluster, real or null, has one row.",
        "ranges": "p-values, q-values and shares are in range, and every k is one of the ks.",
    },
    "selected_clusters": {
        "complete": "Every cluster has one verdict, with a reason.",
        "k_and_category": "Every selected cluster has one of the ks and a category.",
        "funnel": "The funnel adds up and agrees with the verdicts.",
        "drawn": "The funnel's picture is a PNG file that shows something.",
    },
    "refit_models": {
        "models": "Every selected cluster, and no other, has a sound model or a reason why not.",
    },
    "vertex_samples": {
        "counts": "Table, statistics, files and manifest tell of the same samples.",
        "triggers": "Trigger tokens and words stand where the samples say, and no sample of a "
        "vertex repeats another.",
        "distances": "No sample is farther from its vertex than allowed.",
        "held_out": "Every sample comes from a held-out shard.",
    },
    "reproducibility": {"drawn": "The picture is a PNG file that shows something."},
    "review_page": {
        "whole": "The page holds every cluster.",
        "size": "The page is smaller than 5 MB.",
    },
    "recovery": {
        "complete": "Every component of the process has its row.",
        "scores": "Scores are at most 1.",
        "drawn": "The picture is a PNG file that shows something.",
    },
}
"""By step and name: a partition that fails one of these does not count."""

WARNING: Mapping[str, Mapping[str, str]] = {
    "sae_fit": {
        "few_large_tokens": "No few tokens decide what variance there is.",
        "decoder_rows": "No decoder row is zero.",
        "says_the_same": "What the SAE says of its training holds in the study.",
    },
    "clustering": {"no_empty_cluster": "Every cluster has latents."},
    "aanet_models": {
        "beats_the_mean": "Models predict held-out rows better than the mean of the training rows.",
    },
    "refit_models": {"all_trained": "Every selected cluster has a model."},
    "vertex_samples": {
        "unseen_in_training": "Samples do not repeat chunks of the training shards, and few "
        "held-out chunks do.",
        "different_texts": "Most chunks found near each vertex are different ones.",
    },
}
"""Those that only warn."""
