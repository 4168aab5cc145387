"""Runs beyond one process: real servers of Slurm and PostgreSQL on free ports of this machine."""
