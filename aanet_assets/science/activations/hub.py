"""Which commits of a model, an SAE and a dataset on a hub a study is made from.

Names of a hub stand for whatever is newest. The asset `sae_fit` looks once and keeps the commits in
its table; all that is made after it reads the same ones, until `sae_fit` is made anew.
"""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from aanet_assets.science.activations.stand_in import from_hub
from aanet_assets.study.settings import SaeSettings
from aanet_assets.study.study import Study, resolve

_COMMIT = re.compile(r"[0-9a-f]{40}")


def newest(study: Study) -> Study:
    """The study with the commits that its names and revisions on a hub stand for now.

    Raises:
        ValueError: a hub has no such revision.
        ConnectionError: a hub cannot be asked, and nothing was downloaded earlier.
    """
    there = on_hub(study)
    if "model" in there:
        study = _with(study, model=commit_of(study.model, "model", study.revision))
    if "corpus" in there:
        assert study.corpus.dataset is not None
        corpus = commit_of(study.corpus.dataset, "dataset", study.corpus.revision)
        study = _with(study, corpus=corpus)
    if "sae" in there:
        study = _with(study, sae=commit_of(_repository(study.sae), "model", study.sae.revision))
    return study


def at_revisions(study: Study, row: Mapping[Any, Any]) -> Study:
    """The study with the commits that a row of the table `sae_fit` keeps."""
    kept = {kind: row[f"{kind}_revision"] for kind in on_hub(study)}
    return _with(study, **{kind: str(sha) for kind, sha in kept.items() if not pd.isna(sha)})


def require_commit(sae: SaeSettings) -> None:
    """Refuse an SAE of a release that has moved on: SAELens loads the newest and no other.

    Raises:
        ValueError: says which commit is asked for and which one there is.
    """
    if sae.release is None or sae.revision is None:
        return
    repository = _repository(sae)
    now = commit_of(repository, "model", None)
    if now != sae.revision:
        raise ValueError(
            f"the SAE {sae.name} was used at commit {sae.revision} and {repository} is at {now} by "
            "now, which is all that SAELens loads: download that commit (hf download "
            f"{repository} --revision {sae.revision} --local-dir ...) and give sae.directory, or "
            "remove the record of sae_fit, so that everything is made from the new one"
        )


def commit_of(repository: str, kind: str, revision: str | None) -> str:
    """The commit that a revision of a repository is; of its main branch if None.

    Without a network it is the one that was downloaded last.

    Raises:
        ValueError: there is no such revision.
        ConnectionError: it cannot be found out.
    """
    import httpx2
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    with from_hub(f"the {kind} {repository}"):
        try:
            return str(HfApi().repo_info(repository, repo_type=kind, revision=revision).sha)
        except RevisionNotFoundError:
            raise ValueError(
                f"the {kind} {repository} has no revision {revision!r} on the hub: set revision to "
                "one of its commits, tags or branches"
            ) from None
        except (OSError, httpx2.HTTPError):
            folder = snapshot_download(
                repository, repo_type=kind, revision=revision, local_files_only=True,
                allow_patterns=[],
            )  # fmt: skip
            return resolve(folder).name


def on_hub(study: Study) -> list[str]:
    """What of a study is on a hub."""
    dataset = study.corpus.dataset
    places = {
        "model": None if study.local is not None else study.model,
        "corpus": dataset,
        "sae": study.sae.release,
    }
    return [
        kind
        for kind, place in places.items()
        if place is not None and (kind == "sae" or not resolve(place).is_dir())
    ]


def _repository(sae: SaeSettings) -> str:
    from sae_lens.loading.pretrained_saes_directory import get_repo_id_and_folder_name

    assert sae.release is not None
    assert sae.id is not None
    return get_repo_id_and_folder_name(sae.release, sae.id)[0]


def _with(study: Study, **commits: str) -> Study:
    changed: dict[str, object] = {}
    for kind, commit in commits.items():
        if kind == "model":
            changed["revision"] = commit
        else:
            changed[kind] = getattr(study, kind).model_copy(update={"revision": commit})
    return study.model_copy(update=changed)
