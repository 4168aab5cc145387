"""A corpus that is a dataset: on a hub, in a folder of data files, or saved to disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aanet_assets.science.activations.text_files import KINDS
from aanet_assets.storage.inputs import card_names_files, data_files, data_kind
from aanet_assets.study.settings import CorpusSettings
from aanet_assets.study.study import resolve

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


def saved_dataset(corpus: CorpusSettings) -> "Dataset | None":
    """A dataset that `save_to_disk` has written, by its own list of files; None of all others.

    Files of an earlier state may lie beside those.
    """
    assert corpus.dataset is not None
    folder = resolve(corpus.dataset)
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return None
    from datasets import DatasetDict, load_from_disk

    with _reading_folder(corpus):
        saved: Any = load_from_disk(str(folder))
        if isinstance(saved, DatasetDict):
            if corpus.split not in saved:
                raise ValueError(f"it has the splits {', '.join(map(str, saved))}")
            saved = saved[corpus.split]
        # Of other columns nothing is to be decoded.
        wanted = corpus.text_column
        return saved.select_columns([wanted]) if wanted in saved.column_names else saved


def streamed_dataset(corpus: CorpusSettings) -> "IterableDataset":
    """A dataset by the library's own reader, its rows one after the other."""
    from datasets import load_dataset_builder

    assert corpus.dataset is not None
    folder = resolve(corpus.dataset)
    with _reading_folder(corpus):
        builder = load_dataset_builder(
            str(folder) if folder.is_dir() else corpus.dataset,
            corpus.config,
            revision=corpus.revision,
        )
        config: Any = builder.config
        if hasattr(config, "keep_default_na"):
            # Of CSV: a document that says NA, null or None says that, and is not without text.
            config.keep_default_na = False
        return cast("IterableDataset", builder.as_streaming_dataset(split=corpus.split))


def local_files(corpus: CorpusSettings) -> list[Path]:
    """The files of a dataset that is a local folder, where our own readers read all of them.

    The library's readers want all columns to agree from file to file, and turn texts that look like
    dates into dates. Which files make the split is its to say.

    Raises:
        ValueError: the library takes the folder's name for a pattern, and so finds nothing in it.
    """
    assert corpus.dataset is not None
    folder = resolve(corpus.dataset)
    if not folder.is_dir():
        return []
    if marks := [mark for mark in "[]*?" if mark in str(folder)]:
        raise ValueError(
            f"the corpus's dataset folder {folder} has a {marks[0]} in its path, which datasets "
            "takes for a pattern: rename it, or give its files as corpus.files"
        )
    files = [Path(name) for name in _chosen(corpus, folder).get(corpus.split, [])]
    known = bool(files) and {file.suffix for file in files} <= set(KINDS)
    return files if known and all(file.is_file() for file in files) else []


def files_passed_over(corpus: CorpusSettings) -> list[str]:
    """Files of data in a dataset's local folder that the library does not read, for their kind.

    Of the kinds in a folder it takes the one with most files, unless the folder's own card says
    which files the dataset has.
    """
    assert corpus.dataset is not None
    folder = resolve(corpus.dataset)
    if saved_dataset(corpus) is not None or card_names_files(folder):
        return []
    found = _chosen(corpus, folder).values()
    kinds = {data_kind(Path(name).name) for files in found for name in files}
    return [name for name in data_files(folder) if data_kind(Path(name).name) not in kinds]


def _chosen(corpus: CorpusSettings, folder: Path) -> dict[str, list[str]]:
    """Files of each split, as the library chooses them in a local folder."""
    from datasets import load_dataset_builder

    with _reading_folder(corpus):
        found = load_dataset_builder(str(folder), corpus.config).config.data_files or {}
    return {str(split): list(map(str, files)) for split, files in found.items()}


@contextmanager
def _reading_folder(corpus: CorpusSettings) -> Iterator[None]:
    """Say in one sentence why the library cannot read a dataset that is a local folder."""
    from datasets.data_files import EmptyDatasetError

    assert corpus.dataset is not None
    folder = resolve(corpus.dataset)
    try:
        yield
    except EmptyDatasetError:
        raise ValueError(
            f"the corpus's dataset folder {folder} holds no file of data: put its files there, or "
            "set corpus.dataset to the folder that has them"
        ) from None
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        if not folder.is_dir():
            raise
        named = f"config {corpus.config!r}, split {corpus.split!r}"
        raise ValueError(
            f"the corpus's dataset folder {folder} cannot be read ({named}): "
            f"{' '.join(str(error).split()).rstrip('.')}; set corpus.config and corpus.split to "
            "what it has, or give its files as corpus.files"
        ) from None
