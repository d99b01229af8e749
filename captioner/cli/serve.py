"""``captioner serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from captioner.cli.options import Classifier, Model, app, command


@command(app, "serve")
def serve(
    port: Annotated[int, typer.Option(help="Port of the page.")] = 7860,
    host: Annotated[str, typer.Option(help="Address to listen on; another lets other machines in.")] = "127.0.0.1",
    model: Model = None,
    classifier: Classifier = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which the page is reached, such as a proxy's.", metavar="NAME"),
    ] = None,
) -> int:
    """Opens a web page for trying the models (needs the extra `app`)."""
    from captioner.page import serve as serve_page
    from captioner.videos.analyzer import chosen_classifier

    serve_page(host, port, model, chosen_classifier(classifier), allow_hosts=allow_host or ())
    return 0
