"""A process that a user wrote: `truth.process="my_module:MyProcess"`."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from aanet_assets.science.activations.targets import Factor, Targets
from aanet_assets.science.toy.process import ProductProcess, UnionProcess, entropy
from aanet_assets.study.layout import data_root
from aanet_assets.study.study import process_path

_EXACT = 1e-6
"""How far probabilities may be from their sum of 1."""
_TRIED = (2, 4)
"""Documents and letters with which a process is tried before it is used."""


class Process(Protocol):
    """What the class has: it is called without arguments, and equal arguments give equal results.

    A letter is a word of the documents and a token of the model; arrays hold indices into
    `letters`.
    """

    letters: Sequence[str]
    """Different words without spaces."""

    def sample(self, documents: int, length: int, seed: int) -> Int[np.ndarray, "documents length"]:
        """Draw documents."""
        ...

    def beliefs(
        self, letters: Int[np.ndarray, "documents length"]
    ) -> (
        Float[np.ndarray, "documents length states"]
        | Mapping[str, Float[np.ndarray, "documents length states"]]
    ):
        """What is known after each letter: of one thing, or of several by their names.

        Numbers that are probabilities are looked for as a simplex.
        """
        ...

    def predictive(
        self, letters: Int[np.ndarray, "documents length"]
    ) -> Float[np.ndarray, "documents length_and_one letters"]:
        """Distribution of the next letter: before the first one, and after each."""
        ...


class _UnusableError(ValueError):
    """What is wrong with a process, in a sentence."""


class OwnProcess:
    """A user's process, tried and found usable."""

    def __init__(self, process: Any, name: str):
        """Try what should be a `Process`; `name` says what messages call it.

        Raises:
            ValueError: it lacks something, or gives what are no letters, beliefs or probabilities.
        """
        missing = [
            part
            for part in ("letters", "sample", "beliefs", "predictive")
            if not hasattr(process, part)
        ]
        if missing:
            raise _UnusableError(
                f"the process {name} has no {missing[0]}: it needs letters, sample, beliefs and "
                "predictive (docs/truth.md)"
            )
        self._process, self._name = process, name
        self.letters = tuple(process.letters)
        self._check_letters()
        letters = self.sample(*_TRIED, seed=0)
        if not np.array_equal(letters, self.sample(*_TRIED, seed=0)):
            raise self._wrong("sample", "gives other documents when it is called again with a seed")
        self.names = tuple(self._beliefs(letters))
        self.first_letter: Float[np.ndarray, " vocab"] = self._predictive(letters[:1, :0])[0, 0]
        self._predictive(letters)

    def _wrong(self, method: str, what: str) -> "_UnusableError":
        return _UnusableError(f"the process {self._name}: {method} {what}")

    def _check_letters(self) -> None:
        words = self.letters
        fine = all(isinstance(word, str) and len(word.split()) == 1 for word in words)
        if not words or not fine or len(set(words)) < len(words):
            raise self._wrong("letters", f"are {words!r:.200}; they must be different words")
        if odd := [word for word in words if word != word.strip() or word.startswith("<")]:
            raise self._wrong("letters", f"has {odd[0]!r}; a word has no < in front and no spaces")

    def sample(
        self, n_documents: int, length: int, seed: int
    ) -> Int[np.ndarray, "documents length"]:
        """Draw documents of `length` letters, as indices into `letters`."""
        found = np.asarray(self._process.sample(n_documents, length, seed))
        if found.shape != (n_documents, length) or found.dtype.kind not in "iu":
            raise self._wrong(
                "sample",
                f"gives {found.dtype} of the shape {found.shape}; it must be integers of the shape "
                f"({n_documents}, {length})",
            )
        if found.size and not 0 <= found.min() <= found.max() < len(self.letters):
            raise self._wrong(
                "sample",
                f"gives numbers from {found.min()} to {found.max()}; letters are 0 to "
                f"{len(self.letters) - 1}",
            )
        return found.astype(np.int64)

    def targets(self, letters: Int[np.ndarray, "documents length"]) -> Targets:
        """Every factor's belief after each letter, document by document."""
        factors = []
        everywhere = np.ones(letters.size, dtype=bool)
        for name, belief in self._beliefs(letters).items():
            values = belief.reshape(letters.size, -1)
            states = values.shape[1]
            is_simplex = states > 1 and _are_probabilities(values)
            kind = "probabilities" if is_simplex else "numbers"
            factors.append(Factor(name, kind, states if is_simplex else None, everywhere, values))
        return Targets(letters.ravel(), factors)

    def predictive(
        self, letters: Int[np.ndarray, "documents length"]
    ) -> Float[np.ndarray, "documents length vocab"]:
        """Distribution of the next letter after each letter; see `first_letter` too."""
        return self._predictive(letters)[:, 1:]

    def bayes_loss(self, letters: Int[np.ndarray, "documents length"]) -> float:
        """Least possible loss in nats: mean entropy of the next letter, after each letter."""
        return entropy(self.predictive(letters))

    def _beliefs(
        self, letters: Int[np.ndarray, "documents length"]
    ) -> dict[str, Float[np.ndarray, "documents length states"]]:
        given = self._process.beliefs(letters)
        own = dict(given) if isinstance(given, Mapping) else {type(self._process).__name__: given}
        found = {str(name): np.asarray(belief, dtype=np.float64) for name, belief in own.items()}
        if not found:
            raise self._wrong("beliefs", "gives none; give one or more")
        for name, belief in found.items():
            if belief.ndim != 3 or belief.shape[:2] != letters.shape or not belief.shape[2]:
                raise self._wrong(
                    "beliefs",
                    f"gives {name} the shape {belief.shape}; for letters of the shape "
                    f"{letters.shape} it must be {(*letters.shape, 'states')}",
                )
            if not np.isfinite(belief).all():
                raise self._wrong("beliefs", f"gives {name} numbers that are NaN or infinite")
        return found

    def _predictive(
        self, letters: Int[np.ndarray, "documents length"]
    ) -> Float[np.ndarray, "documents length_and_one vocab"]:
        found = np.asarray(self._process.predictive(letters), dtype=np.float64)
        wanted = (len(letters), letters.shape[1] + 1, len(self.letters))
        if found.shape != wanted:
            raise self._wrong(
                "predictive",
                f"gives the shape {found.shape}; for letters of the shape {letters.shape} it must "
                f"be {wanted}: before the first letter and after each",
            )
        if not _are_probabilities(found):
            total = found.sum(axis=-1)
            worst = total.ravel()[np.argmax(np.abs(total - 1))]
            raise self._wrong(
                "predictive",
                f"gives no probabilities (the least is {found.min():.6g}, and one sum is "
                f"{worst:.6g}); they must be 0 or more and sum to 1",
            )
        return found


KnownProcess = UnionProcess | ProductProcess | OwnProcess
"""Whatever a study's truth can be."""


def _are_probabilities(values: Float[np.ndarray, "*places states"]) -> bool:
    # Written so that a NaN fails, too.
    return bool((values >= 0).all() and (np.abs(values.sum(axis=-1) - 1) <= _EXACT).all())


def load_process(process: str) -> OwnProcess:
    """The process that `module:Class` names; the module lies in the project's folder.

    It is loaded anew each time: whoever edits it while Dagster runs wants it as it is now.

    Raises:
        ValueError: there is no such module or class, or it is no process; says what is wrong.
    """
    module, _, kind = process.partition(":")
    path = process_path(process)
    if not path.is_file():
        raise ValueError(f"the process {process} is not there: write the class {kind} into {path}")
    own = getattr(_run(module, path, process), kind, None)
    if not isinstance(own, type):
        raise ValueError(f"the process {process} is not there: {path} has no class {kind}")
    try:
        return OwnProcess(own(), process)
    except _UnusableError:
        raise
    except Exception as error:
        raise _failed(process, path, error) from error


def _run(module: str, path: Path, process: str) -> Any:
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None
    found = importlib.util.module_from_spec(spec)
    before, project = sys.modules.get(module), str(data_root().parent)
    # It may import its neighbours; dataclasses look for their own module.
    sys.path.insert(0, project)
    sys.modules[module] = found
    try:
        # From the source: compiled files tell two edits of one second apart by their sizes alone.
        exec(compile(path.read_bytes(), str(path), "exec"), vars(found))
    except (Exception, SystemExit) as error:
        raise _failed(process, path, error) from error
    finally:
        sys.path.remove(project)
        if before is None:
            del sys.modules[module]
        else:
            sys.modules[module] = before
    return found


def _failed(process: str, path: Path, error: BaseException) -> ValueError:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return ValueError(f"the process {process} cannot be used: {said} ({path})")
