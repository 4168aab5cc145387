"""Questions to a language model behind an OpenAI-compatible address, and answers that are kept.

An answer is kept by the content of its question, so that the same question is asked once, whatever
else is made anew.
"""

import hashlib
import json
import os
from pathlib import Path

import httpx2

from aanet_assets.storage.files import write_json
from aanet_assets.study.settings import InterpretationSettings


class NoAnswerError(RuntimeError):
    """The endpoint gave no answer that can be used; the message says why."""


class Endpoint:
    """A model that is asked, until it has once not been reached.

    Args:
        settings: where it is and how long it may take.
        kept: folder of the answers.
    """

    def __init__(self, settings: InterpretationSettings, kept: Path):
        self._settings, self._kept = settings, kept
        self._problem: str | None = None if settings.endpoint else "no endpoint is set"

    def ask(self, model: str, question: str) -> str:
        """The model's answer.

        Raises:
            NoAnswerError: there is none, or the endpoint was not reached before.
        """
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "seed": self._settings.seed,
        }
        name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        path = self._kept / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))["answer"]
        if self._problem is not None:
            raise NoAnswerError(self._problem)
        answer = self._post(body)
        write_json(path, {**body, "answer": answer})
        return answer

    def _post(self, body: dict) -> str:
        url = f"{str(self._settings.endpoint).rstrip('/')}/chat/completions"
        key = os.environ.get(self._settings.key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            response = httpx2.post(url, json=body, headers=headers, timeout=self._settings.timeout)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            # Every further question would wait as long.
            self._problem = f"{url} cannot be reached ({type(error).__name__}: {error})"
            raise NoAnswerError(self._problem) from None
        if response.status_code >= 400:
            self._problem = f"{url} answers {response.status_code}: {response.text[:120]!r}"
            raise NoAnswerError(self._problem)
        try:
            answer = response.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise NoAnswerError(
                f"{url} does not answer as chat completions do: {response.text[:120]!r}"
            ) from None
        if not isinstance(answer, str) or not answer.strip():
            raise NoAnswerError(f"{url} gives an empty answer")
        return answer
