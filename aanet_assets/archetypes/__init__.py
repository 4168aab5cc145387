"""AANets: simplex, network, extrema, stacked training, export."""
