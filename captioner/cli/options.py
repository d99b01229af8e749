"""What all commands share: the application, how errors become an exit status, and the options that recur."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from captioner.errors import CaptionerError
from captioner.names import printable

FAILED = 1
USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    help="Says what is in photographs and videos: captions, actions, unusual moments. On a CPU, offline.",
    epilog="Exit status: 0 everything worked, 1 some input failed, 2 wrong usage. Results go to standard output, "
    "everything else to standard error.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help needs no rich, which takes as long to import as everything else together
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Trains a model on your own data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")


def command(owner: typer.Typer, name: str) -> Callable:
    """A command whose errors become one line on standard error and an exit status."""

    def decorate(function: Callable[..., int | None]) -> Callable:
        @owner.command(name)
        @functools.wraps(function)
        def run(*args, **kwargs):
            try:
                status = function(*args, **kwargs)
                sys.stdout.flush()
            except CaptionerError as error:
                status = _complain(str(error))
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                status = INTERRUPTED
            except OSError as error:  # of standard output: all other files have errors of their own
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left must not fail again at exit
                if not isinstance(error, BrokenPipeError):  # whoever reads wants no more
                    _complain(f"cannot write to standard output: {error.strerror}")
                status = FAILED
            raise typer.Exit(status or 0)

        return function

    return decorate


def _complain(text: str) -> int:
    print(f"captioner: {printable(text)}", file=sys.stderr)
    return USAGE


# Defaults of options that are None here are those of the package; what help shows for them is checked by a test.
Paths = Annotated[list[str], typer.Argument(help="Files and folders.", metavar="PATH...")]
Model = Annotated[str | None, typer.Option(help="Name of a shipped model, or a model folder.", metavar="NAME|DIR")]
Classifier = Annotated[
    str | None,
    typer.Option(help="A clip classifier, or none.", metavar="NAME|DIR|none", show_default="the shipped one"),
]
BeamSize = Annotated[int | None, typer.Option(help="Captions followed at once; 1 is greedy.", show_default="3")]
NBest = Annotated[int | None, typer.Option(help="Captions to give for each image, best first.", show_default="1")]
MaxLength = Annotated[int | None, typer.Option(help="Most words of a caption.", show_default="20")]
MinLength = Annotated[int | None, typer.Option(help="Fewest words of a caption.", show_default="1")]
LengthPenalty = Annotated[
    float | None, typer.Option(help="Power of the length that divides log-probabilities.", show_default="0.9")
]
Strategy = Annotated[str | None, typer.Option(help="beam, greedy or sample.", show_default="beam")]
Temperature = Annotated[float | None, typer.Option(help="Sampling: below 1 careful, above bold.", show_default="1.0")]
TopK = Annotated[int | None, typer.Option(help="Sampling: only among so many words; 0 is all.", show_default="0")]
TopP = Annotated[float | None, typer.Option(help="Sampling: only among words of this share.", show_default="1.0")]
Seed = Annotated[int | None, typer.Option(help="Sampling: the same seed, the same captions.", show_default="0")]
RepeatWords = Annotated[
    bool | None,
    typer.Option("--repeat-words", help="Let a word that carries a meaning come twice.", show_default="False"),
]
Style = Annotated[
    str,
    typer.Option(help="Manner of writing: of which data set the model was trained on.", show_default="the general one"),
]
BatchSize = Annotated[int, typer.Option(help="Images computed together; results do not depend on it.")]
Format = Annotated[
    str | None, typer.Option(help="text, json, jsonl or csv.", show_default="by the name of --output, else text")
]
Runtime = Annotated[str, typer.Option(help="auto, openvino or keras.")]
Precision = Annotated[str, typer.Option(help="auto, f32, bf16 or int8.")]
Threads = Annotated[int | None, typer.Option(help="Cores to use.", show_default="all")]
TimeLimit = Annotated[float, typer.Option(help="Seconds that a file may take before it counts as failed.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed in an earlier run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make results again that are there already.")]
Prune = Annotated[bool, typer.Option("--prune", help="Drop the results of files that are gone.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Files and folders to pass over, for example 'thumb*' or '2019/raw'; may be given several times.",
        metavar="PATTERN",
    ),
]
Engine = Annotated[str, typer.Option(help="local, or ray (needs the extra `ray`).")]


def given(**options) -> dict:
    """The options that were given; for the others the defaults of the package hold."""
    return {name: value for name, value in options.items() if value is not None}
