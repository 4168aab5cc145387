"""What every asset does around its own work: check what it reads, run, check, record, report."""

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from aanet_assets.orchestration.orphans import report_process
from aanet_assets.orchestration.partitions import (
    backfill_policy,
    dependency,
    partitions_def,
    partitions_of_run,
)
from aanet_assets.orchestration.pipeline import partitions_of, tables_of
from aanet_assets.orchestration.same_code import CODE_TAG, code, require_same_code
from aanet_assets.steps.activations import at_commits, sae_fit
from aanet_assets.storage import warehouse
from aanet_assets.storage.fingerprints import content_digest
from aanet_assets.storage.kept import let_go
from aanet_assets.storage.locks import partition_lock
from aanet_assets.storage.obeyed import digest_of, settings_values
from aanet_assets.storage.records import (
    Standing,
    contents_read,
    discard_record,
    fetch_files,
    fetch_tables,
    read_record,
    require_as_recorded,
    require_upstream,
    unsent_files,
    write_record,
)
from aanet_assets.storage.refusals import REFUSED, remove_refusal, write_refusal
from aanet_assets.storage.remote import pull
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import (
    Finding,
    Outcome,
    Partition,
    Step,
    ancestors,
    parts_read,
    upstream,
)
from aanet_assets.study.study import Study

log = logging.getLogger("aanet")


def run_step(
    study: Study, partition: Partition, is_retry: bool = False
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Do the work of one partition and check it; the record, written last, makes it count.

    Args:
        is_retry: of a run that did not come to its end; where its work did, it is only told.

    Raises:
        BusyError: another process is making it.
        LostLeaseError: it was, but may be another's now.
        NotReadyError: something that it reads is missing or stale.
        dagster.Failure: a blocking check failed.
    """
    step = partition.step
    let_go(step)
    with partition_lock(study, partition) as require_held:
        require_upstream(study, partition)
        above = [up for up in ancestors(study, [partition]) if up.step is sae_fit]
        read = [*upstream(study, partition), *above]
        fetch_files(study, read)
        require_as_recorded(study, read, f"{partition} of study {study.name!r}")
        made_from = contents_read(study, partition)
        obeyed = settings_values(study, step, partition.n)
        run = Run(_at_commits(study, partition), partition)
        if is_retry and Standing(study).problem(partition) is None:
            yield from _told_again(run)
            return
        unsent = unsent_files(study, partition, made_from, obeyed)
        discard_record(study, partition)
        started = time.monotonic()
        outcome = step.work(run) if unsent is None else Outcome(unsent)
        findings = step.check(run) if step.check else []
        results = [check_result(finding) for finding in findings]
        failed = [finding for finding in findings if not finding.passed]
        blocking = [finding for finding in failed if finding.blocking]
        tables = [file for file in outcome.files if step.paths(study).tables in file.parents]
        if blocking:
            said = _said(blocking)
            aside = _set_aside(tables)
            if tables:
                _update_database(study, step)
            write_refusal(study, partition, said, [*aside, *set(outcome.files) - set(tables)])
            _afterwards(study, step)
            yield from results
            raise _refusal(partition, said, outcome)
        for finding in failed:
            log.warning(f"{partition}: check {finding.name} failed: {finding.said}")
        for file in tables:
            file.with_suffix(REFUSED).unlink(missing_ok=True)
        remove_refusal(study, partition)
        # Before the record: after a kill in between, the next run makes the database whole, too.
        if tables:
            _update_database(study, step)
        content = content_digest(outcome.files)
        record = write_record(
            study, partition, content, outcome.files, made_from, obeyed, require_held
        )
        _afterwards(study, step)
        yield dg.MaterializeResult(
            metadata={**outcome.metadata, **_cost(outcome, started)},
            data_version=dg.DataVersion(record.content),
            check_results=results,
        )


def _told_again(run: Run) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """What Dagster is to know of a finished partition; what read it meanwhile finds it there."""
    step, study = run.partition.step, run.study
    record = read_record(study, run.partition)
    assert record is not None
    fetch_files(study, [run.partition])
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(record.content),
        check_results=[
            check_result(finding) for finding in (step.check(run) if step.check else [])
        ],
    )


def _at_commits(study: Study, partition: Partition) -> Study:
    """The study with the commits of a hub that its partitions share: `sae_fit` looks, once."""
    if partition.step is sae_fit:
        return at_commits(study, fitted=False)
    made_after = any(up.step is sae_fit for up in ancestors(study, [partition]))
    return at_commits(study, fitted=True) if made_after else study


def _afterwards(study: Study, step: Step) -> None:
    if step.afterwards is not None:
        step.afterwards(study)


def _cost(outcome: Outcome, started: float) -> dict[str, Any]:
    """What Dagit shows of every partition."""
    return {
        "seconds": round(time.monotonic() - started, 2),
        "bytes": sum(file.stat().st_size for file in outcome.files),
        "folder": dg.MetadataValue.path(str(outcome.files[0].parent)) if outcome.files else "none",
    }


def _said(blocking: Sequence[Finding]) -> str:
    return "; ".join(f"check {finding.name} failed: {finding.said}" for finding in blocking)


def _set_aside(tables: Sequence[Path]) -> list[Path]:
    """Keep tables that failed a check out of the database, but leave them for people to read."""
    return [file.replace(file.with_suffix(REFUSED)) for file in tables]


def _update_database(study: Study, step: Step) -> None:
    # What is shared is in the database of the study that it is named for, which finds it there
    # when its own next partition is finished.
    if step.home(study) == study.name:
        warehouse.update(study.paths, tables_of(study))


def fetch_database(study: Study) -> None:
    """Of a study that is kept in object storage, make the local database hold all its tables.

    Raises:
        RemoteError: they cannot be fetched.
    """
    if study.remote is not None:
        pull(study)
        fetch_tables(study, partitions_of(study))
        warehouse.update(study.paths, tables_of(study))


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


def uses_gpu(run: dg.DagsterRun) -> bool:
    """Whether a run holds a step on a CUDA device.

    Its pools tell: Dagster writes those of its steps into every run, whoever asked for it. Tags of
    assets and steps reach no run.
    """
    pools = run.run_op_concurrency.all_pools if run.run_op_concurrency else None
    return any(pool.partition("_")[0] == "cuda" for pool in pools or ())


def version_of(study: Study, step: Step) -> str:
    """Dagster's code version: it shows stale what was made by other code or with other settings.

    Without the contents of input files, which would have to be read for it.
    """
    settings = digest_of(settings_values(study, step, contents=False))
    return f"{step.code_version}-{settings[:8]}"


def build_asset(study: Study, step: Step) -> dg.AssetsDefinition:
    """The asset of a step."""

    @dg.asset(
        key=step.asset_key(study),
        # Groups of several studies share one graph: the study keeps them apart.
        group_name=f"{step.home(study)}_{step.group}",
        kinds=set(step.kinds),
        description=step.description,
        code_version=version_of(study, step),
        partitions_def=partitions_def(study, step.partitions),
        deps=[dependency(study, step, part) for part in parts_read(study, step)],
        pool=pool(study) if step.on_device else None,
        # Without a schema Dagster would take any launchpad setting, and ignore it.
        config_schema={},
        backfill_policy=backfill_policy(study, step.partitions),
        check_specs=_check_specs(study, step),
        op_tags={CODE_TAG: code()},
    )
    def run(context: dg.AssetExecutionContext) -> Iterator[Any]:
        report_process(context.instance, context.run)
        partitions = partitions_of_run(study, step, context.run)
        require_same_code(context, partitions[0])
        # Dagster's own tag of runs that it started anew after their process or database was lost.
        is_retry = "dagster/retry_number" in context.run.tags
        if len(partitions) == 1:
            yield from run_step(study, partitions[0], is_retry)
        else:
            yield from _run_range(study, partitions, is_retry)

    return run


def _run_range(
    study: Study, partitions: Sequence[Partition], is_retry: bool
) -> Iterator[dg.AssetCheckEvaluation | dg.AssetMaterialization | dg.MaterializeResult]:
    """Make partitions one after the other; each of them counts, in Dagster too, once it is made."""
    made: list[dg.AssetMaterialization] = []
    checks: list[dg.AssetCheckResult] = []
    for partition in partitions:
        for result in run_step(study, partition, is_retry):
            found = [result] if isinstance(result, dg.AssetCheckResult) else result.check_results
            yield from (_evaluation(study, partition, check) for check in found)
            checks += found
            if isinstance(result, dg.MaterializeResult) and result.data_version is not None:
                version = result.data_version.value
                made.append(materialisation(study, partition, version, metadata=result.metadata))
                yield made[-1]
    # Dagster wants one result of a step, and one of each of its checks: the worst.
    checks.sort(key=lambda check: not check.passed)
    yield dg.MaterializeResult(check_results=list({c.check_name: c for c in checks}.values()))
    # It gave all partitions one data version by that; what is said last counts.
    yield from made


def materialisation(
    study: Study, partition: Partition, version: str, **said: Any
) -> dg.AssetMaterialization:
    """What Dagster is told of a finished partition where it does not see by itself that it is."""
    versions = {"data_version": version, "code_version": version_of(study, partition.step)}
    return dg.AssetMaterialization(
        partition.step.asset_key(study),
        partition=partition.key,
        tags={f"dagster/{name}": value for name, value in versions.items()},
        **said,
    )


def _evaluation(
    study: Study, partition: Partition, check: dg.AssetCheckResult
) -> dg.AssetCheckEvaluation:
    assert check.check_name is not None
    return dg.AssetCheckEvaluation(
        dg.AssetKey(partition.step.asset_key(study)),
        check.check_name,
        passed=check.passed,
        severity=check.severity,
        description=check.description,
        blocking=check.check_name in partition.step.blocking,
        partition=partition.key,
    )


def _check_specs(study: Study, step: Step) -> list[dg.AssetCheckSpec]:
    """The checks of a step as Dagster knows them: one result per partition each."""
    partitions = partitions_def(study, step.partitions)
    with warnings.catch_warnings():
        # Checks with partitions are new in Dagster; this tells its users, not the project's.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                name,
                asset=step.asset_key(study),
                description=description,
                blocking=name in step.blocking,
                partitions_def=partitions,
            )
            for name, description in {**step.blocking, **step.warning}.items()
        ]


def check_result(finding: Finding) -> dg.AssetCheckResult:
    """What Dagit shows of a finding."""
    return dg.AssetCheckResult(
        check_name=finding.name,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.ERROR if finding.blocking else dg.AssetCheckSeverity.WARN,
        description=finding.said,
    )
