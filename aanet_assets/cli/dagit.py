"""Dagit, kept up: `dagster dev` ends when its daemon dies; it is started again unless told to stop.

Runs that go on then are processes of their own and come to their end meanwhile.
"""

import signal
import subprocess
import sys
import time

import typer

from aanet_assets.cli.terminal import console, mend_orphans, open_instance, stop

# Ending sooner is no accident: the port is taken, or a setting is wrong.
_SOON = 30.0
_PAUSE = 30


def serve(host: str, port: int) -> None:
    """Serve Dagit, with sensors and schedules running, until Ctrl-C or a request to end."""
    command = [sys.executable, "-m", "dagster", "dev", "--host", host, "--port", str(port)]
    process: subprocess.Popen | None = None
    told_to_stop = False

    def pass_on(*_: object) -> None:
        nonlocal told_to_stop
        told_to_stop = True
        if process is not None:
            process.send_signal(signal.SIGINT)

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup, the end of the terminal is to be ignored.
        if name is not signal.SIGHUP or signal.getsignal(name) is not signal.SIG_IGN:
            signal.signal(name, pass_on)
    while not told_to_stop:
        try:
            with open_instance() as instance:
                mend_orphans(instance)
        except typer.Exit:
            if process is None:
                raise
            # A database may have gone, and Dagit's daemon with it: it may come back.
            console.print(f"Dagit starts again when that is mended; next try in {_PAUSE} s.")
            for _ in range(_PAUSE):
                if not told_to_stop:
                    time.sleep(1)
            continue
        console.print(f"Dagit: http://{host}:{port} (Ctrl-C stops it)")
        started = time.monotonic()
        # Apart from the terminal: it gets Ctrl-C from here, and only once.
        process = subprocess.Popen(command, start_new_session=True)
        if told_to_stop:
            process.send_signal(signal.SIGINT)
        process.wait()
        if not told_to_stop and time.monotonic() - started < _SOON:
            raise stop("Dagit ended at once; the lines above say why")
