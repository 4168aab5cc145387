"""All that knows Dagster, and nothing else: partitions, assets, sensor, schedule, jobs."""
