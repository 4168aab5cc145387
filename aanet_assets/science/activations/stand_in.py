"""Reading over a network that fails now and then: tries again for a while, then says so."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay
from tenacity import wait_exponential_jitter as growing_pause

log = logging.getLogger("aanet")
GIVE_UP = 300.0
"""Seconds without success after which a failure is reported."""

Read = TypeVar("Read")


def persistently(read: Callable[[], Read], what: str, give_up: float = GIVE_UP) -> Read:
    """What `read` returns; called again, after growing pauses, while the network is at fault.

    Raises:
        ConnectionError: it was at fault for `give_up` seconds.
    """

    def say(state: RetryCallState) -> None:
        assert state.outcome is not None
        pause = state.upcoming_sleep
        log.warning(f"{what} failed ({_short(state.outcome.exception())}); again in {pause:.0f} s")

    def end(state: RetryCallState) -> Read:
        assert state.outcome is not None
        error = state.outcome.exception()
        raise ConnectionError(
            f"{what} failed for {state.seconds_since_start:.0f} s, the last time with: "
            f"{_short(error)}. Check the network and run again: it goes on from the last whole "
            "block"
        ) from error

    retrying = Retrying(
        retry=retry_if_exception(_is_the_network),
        wait=growing_pause(initial=1, max=60),
        stop=stop_after_delay(give_up),
        before_sleep=say,
        retry_error_callback=end,
    )
    return retrying(read)


@contextmanager
def from_hub(what: str) -> Iterator[None]:
    """Say in one sentence why something could not be had from the hub, and what to do.

    Raises:
        ConnectionError: it could not.
    """
    import httpx2

    try:
        yield
    except (OSError, httpx2.HTTPError) as error:
        raise ConnectionError(
            f"{what} could not be loaded from the Hugging Face hub ({_short(error)}). Check the "
            "network; a gated model needs the token (HF_TOKEN) of an account that has accepted its "
            "licence; without the hub, name a directory instead"
        ) from None


def _short(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"


def _is_the_network(error: BaseException) -> bool:
    """Time-outs, refused and broken connections, and servers that are busy or out of order."""
    # What huggingface_hub, and so datasets, reads with.
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, httpx2.HTTPStatusError | HfHubHTTPError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, ConnectionError | TimeoutError | httpx2.TransportError)
