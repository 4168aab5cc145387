"""The corpus reads back as the documents that were drawn."""

import datasets
import numpy as np
import pytest

from aanet_assets.science.toy.corpus import letters_of, text_of, write_corpus
from aanet_assets.science.toy.process import UNION7


def test_corpus_reads_back_through_datasets(tmp_path):
    path = write_corpus(tmp_path / "corpus", UNION7, n_documents=300, length=16, seed=7)
    read = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert read.column_names == ["text"]
    letters = np.stack([letters_of(text) for text in read["text"]])
    np.testing.assert_array_equal(letters, UNION7.sample(300, 16, seed=7))


def test_equal_seeds_give_equal_bytes(tmp_path):
    first = write_corpus(tmp_path / "a", UNION7, 100, 16, seed=1).read_bytes()
    assert write_corpus(tmp_path / "b", UNION7, 100, 16, seed=1).read_bytes() == first
    assert write_corpus(tmp_path / "c", UNION7, 100, 16, seed=2).read_bytes() != first


def test_a_document_is_spelled_with_its_letters():
    letters = np.array([0, 0, 2, 10, 22])
    assert text_of(letters) == "a1 a1 a3 d2 g4"
    np.testing.assert_array_equal(letters_of("a1 a1 a3 d2 g4"), letters)


def test_unknown_words_are_named():
    with pytest.raises(ValueError, match="a4, h1: no letters of this process, which has a1, a2"):
        letters_of("a1 h1 a4")
