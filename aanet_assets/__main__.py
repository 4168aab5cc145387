"""`python -m aanet_assets` is `aanet`."""

from aanet_assets.cli import app

app(prog_name="aanet")
