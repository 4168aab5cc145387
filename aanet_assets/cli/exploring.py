"""The commands that look into a finished study's simplices: `aanet project` and `aanet serve`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from aanet_assets.cli.terminal import StudyName, console, load_with_clusters, stop

if TYPE_CHECKING:
    import pandas as pd

    from aanet_assets.explore.opened import OpenStudy

_COLOURS = ("blue", "red", "green", "magenta", "yellow", "cyan", "bright_magenta", "bright_black")
N = Annotated[int, typer.Argument(help="n_clusters of the clustering.")]
Cluster = Annotated[int, typer.Argument(help="The cluster's id in it.")]
Prompt = Annotated[str, typer.Argument(help="What the model reads, in quotes.")]
K = Annotated[
    int | None, typer.Option(help="Number of vertices, of a cluster that is not selected.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 for a free one.")]


def project_text(study: StudyName, n: N, cluster: Cluster, text: Prompt, k: K = None) -> None:
    """Show where in a cluster's simplex the tokens of a text lie."""
    opened = _open(study)
    try:
        simplex = opened.simplex(n, cluster, k)
        found = simplex.project(text)
    except (ValueError, RuntimeError, OSError) as error:
        raise stop(error) from None
    if not found["active"].any():
        console.print(
            f"{simplex.provenance.name} is active at none of the {len(found)} tokens.",
            highlight=False,
        )
        return
    is_coloured = console.color_system is not None and not console.no_color
    console.print(_marked(text, found, is_coloured), soft_wrap=True, highlight=False)
    vertices = range(simplex.k)
    if is_coloured:
        legend = [Text(f"● vertex {i}", style=_colour(i)) for i in vertices]
        console.print(Text("  ").join(legend), highlight=False)
    names = [f"vertex {i}" for i in vertices]
    table = Table("position", "token", "nearest", *names, title=simplex.provenance.name)
    for row in found[found["active"]].to_dict("records"):
        coordinates = [f"{row[f'b_{i + 1}']:.3f}" for i in vertices]
        nearest = Text(str(row["vertex_id"]), style=_colour(row["vertex_id"]))
        table.add_row(str(row["position"]), Text(repr(row["token"])), nearest, *coordinates)
    console.print(table)


def serve_page(study: StudyName, port: Port = 8000) -> None:
    """Serve a local page on which texts are projected, and predictions edited."""
    from aanet_assets.explore.server import HOST, Explorer

    opened = _open(study)
    try:
        with console.status("loading the model"):
            server = Explorer(opened, port)
    except OSError as error:
        raise stop(f"{HOST}:{port} cannot be listened on ({error}): choose a --port") from None
    except (ValueError, RuntimeError) as error:
        raise stop(error) from None
    with server:
        console.print(f"http://{HOST}:{server.server_port} (Ctrl-C stops it)", highlight=False)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("Stopped.")


def _open(study: str) -> "OpenStudy":
    subject = load_with_clusters(study)
    from aanet_assets.explore.opened import open_study

    return open_study(subject)


def _colour(vertex: int) -> str:
    return f"bold {_COLOURS[vertex % len(_COLOURS)]}"


def _marked(text: str, found: "pd.DataFrame", is_coloured: bool) -> Text:
    """The text, its active tokens in the colour or behind the number of their nearest vertex."""
    marked = Text()
    end = 0
    for piece, start, vertex in _pieces(text, found):
        marked.append(text[end:start])
        if vertex is None:
            marked.append(piece)
        elif is_coloured:
            marked.append(piece, style=_colour(vertex))
        else:
            marked.append(f"[{vertex}:{piece}]")
        end = max(end, start + len(piece))
    marked.append(text[end:])
    return marked


def _pieces(text: str, found: "pd.DataFrame") -> list[tuple[str, int, int | None]]:
    """What each token adds to the text, where, and its nearest vertex where it is active.

    Of tokens that are pieces of one character the last active one counts.
    """
    pieces: list[tuple[str, int, int | None]] = []
    end = 0
    for row in found[found["start"].notna()].to_dict("records"):
        vertex = int(row["vertex_id"]) if row["active"] else None
        if row["end"] > end:
            start = max(row["start"], end)
            pieces.append((text[start : row["end"]], start, vertex))
            end = row["end"]
        elif vertex is not None and pieces:
            pieces[-1] = (*pieces[-1][:2], vertex)
    return pieces
