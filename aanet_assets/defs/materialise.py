"""What every asset does around its own work: check what it reads, run, check, record, report."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from aanet_assets import warehouse
from aanet_assets.checks.finding import Finding
from aanet_assets.defs.checks import CHECKS, check_result, check_specs
from aanet_assets.defs.orphans import report_process
from aanet_assets.defs.partitions import dependency, partition_of, partitions_def
from aanet_assets.lineage import Partition, ancestors, settings_values, steps
from aanet_assets.locks import making
from aanet_assets.records import (
    content_digest,
    contents_read,
    discard_record,
    require_upstream,
    write_record,
)
from aanet_assets.refusals import REFUSED, remove_refusal, write_refusal
from aanet_assets.study import Study

log = logging.getLogger("aanet")


@dataclass(frozen=True)
class Outcome:
    """What the work of one partition left behind."""

    files: list[Path]
    """Every file that holds the partition's content."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What Dagit shows beside it."""
    afterwards: Callable[[Study], None] = lambda _: None
    """Brings up to date what is made of several partitions, once this one counts or is refused."""


Work = Callable[[Study, Partition], Outcome]


def run_step(
    study: Study, partition: Partition, work: Work
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Do the work of one partition and check it; the record, written last, makes it count.

    Raises:
        BusyError: another process is making it.
        NotReadyError: something that it reads is missing or stale.
        dagster.Failure: a blocking check failed.
    """
    with making(study, partition):
        require_upstream(study, partition)
        made_from = contents_read(study, partition)
        obeyed = settings_values(study, steps(study)[partition.step], partition.n)
        at_work = _at_commits(study, partition)
        discard_record(study, partition)
        started = time.monotonic()
        outcome = work(at_work, partition)
        findings = CHECKS[partition.step](at_work, partition)
        results = [check_result(finding) for finding in findings]
        failed = [finding for finding in findings if not finding.passed]
        blocking = [finding for finding in failed if finding.blocking]
        tables = [file for file in outcome.files if study.paths.tables in file.parents]
        if blocking:
            said = _said(blocking)
            aside = _set_aside(study, tables)
            write_refusal(study, partition, said, [*aside, *set(outcome.files) - set(tables)])
            outcome.afterwards(study)
            yield from results
            raise _refusal(partition, said, outcome)
        for finding in failed:
            log.warning(f"{partition}: check {finding.name} failed: {finding.said}")
        for file in tables:
            file.with_suffix(REFUSED).unlink(missing_ok=True)
        remove_refusal(study, partition)
        # Before the record: after a kill in between, the next run makes the database whole, too.
        if tables:
            warehouse.update(study.paths)
        record = write_record(
            study, partition, content_digest(outcome.files), outcome.files, made_from, obeyed
        )
        outcome.afterwards(study)
        yield dg.MaterializeResult(
            metadata={**outcome.metadata, **_cost(outcome, started)},
            data_version=dg.DataVersion(record.content),
            check_results=results,
        )


def _at_commits(study: Study, partition: Partition) -> Study:
    """The study with the commits of a hub that its partitions share: `sae_fit` looks, once."""
    from aanet_assets.lm.hub import as_fitted, newest

    if partition.step == "sae_fit":
        return newest(study)
    made_after = any(up.step == "sae_fit" for up in ancestors(study, [partition]))
    return as_fitted(study) if made_after else study


def _cost(outcome: Outcome, started: float) -> dict[str, Any]:
    """What Dagit shows of every partition."""
    return {
        "seconds": round(time.monotonic() - started, 2),
        "bytes": sum(file.stat().st_size for file in outcome.files),
        "folder": dg.MetadataValue.path(str(outcome.files[0].parent)) if outcome.files else "none",
    }


def _said(blocking: Sequence[Finding]) -> str:
    return "; ".join(f"check {finding.name} failed: {finding.said}" for finding in blocking)


def _set_aside(study: Study, tables: Sequence[Path]) -> list[Path]:
    """Take tables that failed a check out of the database, but leave them for people to read."""
    aside = [file.replace(file.with_suffix(REFUSED)) for file in tables]
    if tables:
        warehouse.update(study.paths)
    return aside


def _refusal(partition: Partition, said: str, outcome: Outcome) -> dg.Failure:
    folders = sorted({str(file.parent) for file in outcome.files})
    where = f"; what was written is left in {' and '.join(folders)}" if folders else ""
    return dg.Failure(
        f"{partition}: {said}. The partition does not count, and nothing reads it{where}",
        metadata=outcome.metadata,
        # The same work would fail the same check.
        allow_retries=False,
    )


def pool(study: Study) -> str | None:
    """The pool in which runs wait for the study's device; a CPU is shared without one."""
    return None if study.device == "cpu" else study.device.replace(":", "_")


def build_asset(study: Study, work: Work, group: str, kinds: set[str]) -> dg.AssetsDefinition:
    """The asset whose name, partitions and edges are those of the step that `work` is named for."""
    table = steps(study)
    step = table[work.__name__]

    @dg.asset(
        key=[study.name, step.name],
        # Groups of several studies share one graph: the study keeps them apart.
        group_name=f"{study.name}_{group}",
        kinds=kinds,
        description=work.__doc__,
        code_version=step.code_version,
        partitions_def=partitions_def(study, step.partitions),
        deps=[dependency(study, step, table[name]) for name in step.upstream],
        pool=pool(study) if step.on_device else None,
        # Without a schema Dagster would take any launchpad setting, and ignore it.
        config_schema={},
        check_specs=check_specs(study, step),
    )
    def run(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        report_process(context.instance, context.run)
        key = str(context.partition_key) if context.has_partition_key else None
        yield from run_step(study, partition_of(step, key), work)

    return run
