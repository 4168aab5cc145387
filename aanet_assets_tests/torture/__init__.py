"""Faults on purpose: kills, full disks, rude readers; nothing may be lost. `make torture`."""
