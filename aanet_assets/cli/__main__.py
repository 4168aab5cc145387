"""`python -m aanet_assets.cli` is `aanet`, too."""

from aanet_assets.cli.commands import app

if __name__ == "__main__":
    app(prog_name="aanet")
