"""The activation cache on disk: shards of sparse codes, and cluster-major rows made from them."""
