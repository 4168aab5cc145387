"""Writes docs/steps.md and docs/tables.md from the declarations of the steps: `make docs`."""

from collections.abc import Iterator
from pathlib import Path

from aanet_assets.orchestration.pipeline import all_steps, read_by
from aanet_assets.storage.step import Step
from aanet_assets.storage.table import Table

_WRITTEN = "This page is written by `make docs` from the declarations in `aanet_assets/steps`."
_PARTITIONS = {
    "Whole": "none", "ByShard": "shards", "ByHeldoutShard": "held-out shards",
    "ByN": "n_clusters", "ByNK": "n_clusters x k",
}  # fmt: skip


def steps_page() -> str:
    """The reference of steps."""
    lines = ["# Steps", "", _WRITTEN, ""]
    for step in all_steps():
        lines += [f"## {step.name}", "", *_sentences(step), ""]
        lines += [f"- **{name}:** {value}" for name, value in _facts(step) if value]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _sentences(step: Step) -> Iterator[str]:
    for line in step.description.strip().splitlines():
        yield line.strip()


def _facts(step: Step) -> Iterator[tuple[str, str]]:
    yield "partitions", _PARTITIONS[step.partitions.__name__]
    yield "job", step.job or ""
    yield "reads", ", ".join(f"[{read.name}](#{read.name})" for read in read_by(step))
    yield "obeys", ", ".join(f"`{name}`" for name in step.settings)
    yield "tables", ", ".join(f"[{t.name}](tables.md#{t.name})" for t in step.tables)
    yield "files", ", ".join(f"`{file.template}`" for file in step.files)
    for title, checks in (("checks", step.blocking), ("warnings", step.warning)):
        yield title, " ".join(f"`{name}`: {said}" for name, said in checks.items())


def tables_page() -> str:
    """The reference of tables."""
    lines = ["# Tables", "", _WRITTEN, "The same lines are comments in `metrics.duckdb`:", ""]
    lines += ["```sql", "SELECT column_name, comment FROM duckdb_columns()", "```", ""]
    for step in all_steps():
        for table in step.tables:
            said = f"{table.description} Written by [{step.name}](steps.md#{step.name})."
            lines += [f"## {table.name}", "", said, ""]
            lines += [*_columns(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def _columns(table: Table) -> Iterator[str]:
    yield "| column | type | what it is |"
    yield "| --- | --- | --- |"
    for column in table.columns:
        yield f"| `{column.name}` | {column.type} | {column.description.replace('|', '/')} |"


PAGES = {"steps.md": steps_page, "tables.md": tables_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).with_name(name).write_text(page(), encoding="utf-8")
