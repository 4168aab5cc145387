"""Steps in Dagster: assets, checks, partitions, jobs, sensors, schedules, the driver."""
