"""The review page: one HTML file per n_clusters in which people look at clusters and thresholds."""
