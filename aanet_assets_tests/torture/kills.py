"""`kill -9` at a random moment of the work on a partition, alone and beside users of the tables."""

import random
import time

import duckdb

from aanet_assets.storage.step import Partition
from aanet_assets_tests.torture.compare import State
from aanet_assets_tests.torture.faults import (
    Fault,
    all_partitions,
    arguments,
    compare,
    go_on,
    has_tables,
    unmake,
    wait_for_work,
)
from aanet_assets_tests.torture.home import STUDY, Aanet, Home
from aanet_assets_tests.torture.users import SqlUser

# Some kills are to come after the work, when Dagster writes down that it is done.
_BEYOND = 1.2
_KEEP_FILES = 0.3
_TWO = 0.25

Durations = dict[Partition, float]
"""How long the work on each partition takes, as far as that is known."""


def seconds_of_work(home: Home, partition: Partition) -> float:
    """How long the work on a partition takes, undisturbed, until its record is there again."""
    unmake(home, partition, keep_files=False)
    run = Aanet(home, *arguments(partition))
    wait_for_work(home, run, partition)
    started = time.monotonic()
    while run.is_running and not home.record(partition).exists():
        time.sleep(0.001)
    seconds = time.monotonic() - started
    ended = run.end()
    if ended.code:
        raise RuntimeError(f"{partition} could not be made:\n{ended.output}")
    return seconds


def kill(
    home: Home, expected: State, partition: Partition, seconds: Durations, rng: random.Random
) -> Fault:
    """Kill the run that makes a partition, then let another go on."""
    others = [p for p in all_partitions() if p.step is partition.step and p != partition]
    unmade = [partition]
    # Now and then the run has a second one of the same asset to make, before or after.
    if others and rng.random() < _TWO:
        unmade.append(rng.choice(others))
    for unmaking in unmade:
        unmake(home, unmaking, keep_files=rng.random() < _KEEP_FILES)
    until = ["run", STUDY, "--until", partition.step.name]
    options = arguments(partition) if len(unmade) == 1 else until
    in_the_middle = _killed_in_the_middle(home, options, partition, seconds, rng)
    problems, resumed = go_on(home, unmade)
    differing, left = compare(home, expected)
    return Fault(partition, "kill", in_the_middle, problems + differing, left, resumed)


def kill_beside_user(
    home: Home, expected: State, partition: Partition, seconds: Durations, rng: random.Random
) -> Fault:
    """The same, while another process holds the database open, or after one was killed in it."""
    has = has_tables(home, partition)
    unmake(home, partition, keep_files=rng.random() < _KEEP_FILES)
    with SqlUser(home.paths, rng.choice(("reader", "writer", "killed writer"))) as user:
        options = arguments(partition)
        in_the_middle = _killed_in_the_middle(home, options, partition, seconds, rng)
        problems, resumed = go_on(home, [partition])
        # A writer blocks other users of the file that it has open: the old one, after a swap.
        if has:
            with duckdb.connect(str(home.paths.database), read_only=True) as database:
                database.execute("FROM aanet_metrics")
    differing, left = compare(home, expected)
    problems = [f"beside a {user.kind}: {text}" for text in problems + user.problems + differing]
    return Fault(partition, "kill beside SQL", in_the_middle, problems, left, resumed)


def _killed_in_the_middle(
    home: Home, options: list[str], partition: Partition, seconds: Durations, rng: random.Random
) -> bool:
    run = Aanet(home, *options)
    wait_for_work(home, run, partition)
    begun = time.monotonic()
    delay, is_done = rng.uniform(0, _BEYOND * seconds[partition]), False
    while (now := time.monotonic() - begun) < delay:
        if not is_done and home.record(partition).exists():
            # The machine is less busy than it was: the next moments are drawn from a shorter time.
            is_done, seconds[partition] = True, (seconds[partition] + now) / 2
        time.sleep(0.001)
    run.kill()
    return not home.record(partition).exists()
