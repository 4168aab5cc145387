"""Which groups of sparse-autoencoder latents form simplices: a data platform on Dagster."""
