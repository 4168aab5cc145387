"""A process of one's own class: used like a shipped one; refused in a sentence if it is none."""

import re
from pathlib import Path

import numpy as np
import pytest

from aanet_assets.science.toy.own_process import OwnProcess
from aanet_assets.science.toy.process import UNION7
from aanet_assets.science.toy.process_file import process_of
from aanet_assets.steps.ground_truth import RECOVERY, recovery
from aanet_assets.steps.inputs import CORPUS, corpus
from aanet_assets.storage.inputs import is_input
from aanet_assets.storage.obeyed import settings_values
from aanet_assets.storage.run import Run
from aanet_assets.study.settings import TruthSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import findings, read
from aanet_assets_tests.small import small_study

SAME = """
import numpy as np
from aanet_assets.science.toy.process import UNION7 as same
from neighbour import states


class Mine:
    letters = same.letters

    def sample(self, documents, length, seed):
        return same.sample(documents, length, seed)

    def beliefs(self, letters):
        speaker = same.component_of_letter[letters]
        return {"speaker": np.eye(states)[speaker], "number": letters[..., None] % 5 + 0.0}

    def predictive(self, letters):
        first = np.broadcast_to(same.first_letter, (len(letters), 1, len(same.letters)))
        return np.concatenate([first, same.predictive(letters)], axis=1) if letters.size else first
"""


@pytest.fixture
def mine(copied: Study) -> Study:
    """The finished small study, with its process wrapped in a class of the project's folder."""
    Path("processes").mkdir()
    Path("processes/own.py").write_text(SAME)
    Path("neighbour.py").write_text("states = 7\n")
    return copied.model_copy(update={"truth": TruthSettings(process="processes.own:Mine")})


def test_a_class_of_ones_own_gives_corpus_and_recovery(mine: Study) -> None:
    path = CORPUS.under(mine.paths.root)
    before = path.read_bytes()
    corpus.work(Run(mine, corpus.at()))
    assert path.read_bytes() == before
    assert all(one.passed for one in findings(mine, corpus.at()).values())
    at = recovery.at(n=7)
    recovery.work(Run(mine, at))
    found = read(mine, at, RECOVERY).set_index("component")
    assert found["kind"].to_dict() == {"speaker": "probabilities", "number": "numbers"}
    assert found.loc["speaker", "true_k"] == 7
    # The letter gives its component away.
    assert found["token_r2"].tolist() == [1, 1]
    assert (found["r2"] < 0.9).all()
    assert all(one.passed for one in findings(mine, at).values())


def test_it_predicts_what_the_one_that_it_wraps_does(mine: Study) -> None:
    own = process_of("processes.own:Mine")
    assert isinstance(own, OwnProcess)
    letters = UNION7.sample(3, 16, seed=5)
    np.testing.assert_array_equal(own.predictive(letters), UNION7.predictive(letters))
    np.testing.assert_array_equal(own.first_letter, UNION7.first_letter)
    assert own.bayes_loss(letters) == UNION7.bayes_loss(letters)


def test_the_modules_source_counts(mine: Study) -> None:
    path = Path("processes/own.py").resolve()
    assert is_input(mine, path)
    before = settings_values(mine, corpus)
    path.write_text(SAME.replace("% 5", "% 4"))
    assert settings_values(mine, corpus) != before
    # Nor does the process that runs keep the old one.
    assert process_of("processes.own:Mine").targets(np.array([[4]])).factors[1].values[0] == 0


TWO = """
import numpy as np


class Two:
    letters = ("a", "b")

    def sample(self, documents, length, seed):
        return np.random.default_rng(seed).integers(0, 2, (documents, length))

    def beliefs(self, letters):
        return np.stack([letters, 1 - letters], axis=-1)

    def predictive(self, letters):
        return np.full((len(letters), letters.shape[1] + 1, 2), 0.5)
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("class Two", "class Three", "has no class Two"),
        ("import numpy", "import numpi", "cannot be used: ModuleNotFoundError: No module named"),
        ("class Two:", "class Two(", "cannot be used: SyntaxError"),
        ("class Two:", "class Two:\n    def __init__(self, x): ...\n", "TypeError: Two.__init__"),
        ("def beliefs", "def belief", "has no beliefs: it needs letters, sample, beliefs and"),
        ('"b")', '"a")', "letters are ('a', 'a'); they must be different words"),
        ('"b")', '"<bos>")', "letters has '<bos>'; a word has no < in front"),
        ("(documents, length))", "documents)", "sample gives int64 of the shape (2,); it must be"),
        ("integers(0, 2", "integers(2, 4", "letters are 0 to 1"),
        ("default_rng(seed)", "default_rng()", "sample gives other documents when it is called"),
        ("return np.stack([letters, 1 - letters], axis=-1)", "return letters",
         "beliefs gives Two the shape (2, 4); for letters of the shape (2, 4) it must be"),
        ("1 - letters]", "1 - letters / 0]", "beliefs gives Two numbers that are NaN or infinite"),
        ("+ 1, 2), 0.5", ", 2), 0.5", "predictive gives the shape (1, 0, 2)"),
        ("0.5)", "0.4)", "gives no probabilities (the least is 0.4, and one sum is 0.8)"),
        ("np.full(", "1 / np.zeros(", "cannot be used: TypeError"),
    ],
)  # fmt: skip
def test_what_is_no_process_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    assert old in TWO
    (tmp_path / "two.py").write_text(TWO.replace(old, new))
    with pytest.raises(ValueError, match=re.escape(said)) as refused, np.errstate(all="ignore"):
        process_of("two:Two")
    assert "two:Two" in str(refused.value)


def test_a_class_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"three:Two is not there: write the class Two into .*\.py"
    ):
        process_of("three:Two")
    (tmp_path / "two.py").write_text(TWO)
    (only,) = process_of("two:Two").targets(np.array([[0, 1]])).factors
    assert (only.name, only.kind, only.true_k) == ("Two", "probabilities", 2)
    assert small_study(truth=TruthSettings(process="two:Two")).makes_corpus
