"""How far a cluster can be trusted to be a simplex: null clusters, shapes, replicates, evidence."""
