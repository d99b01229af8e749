"""What all commands share: the application, how errors become an exit status, and the options that recur."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from captioner.cli import progress
from captioner.errors import CaptionerError
from captioner.names import printable

_LOG = logging.getLogger(__name__)

FAILED = 1
USAGE = 2
INTERRUPTED = 130
DEFAULT_COMMAND = "describe"

_context: ContextVar[typer.Context] = ContextVar("context")  # of the command that runs


class Commands(TyperGroup):
    """Commands, one of which need not be named: ``captioner photo.jpg`` is ``captioner describe photo.jpg``."""

    def parse_args(self, ctx, args):
        """Puts the default command before what is no command: a file, a folder, an address, or an option of its own."""
        first = args[0] if args else "--help"
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        is_ours = first in self.commands or (first.startswith("-") and first != "-" and first.partition("=")[0] in own)
        if not is_ours:
            self._refuse_misspelt(first)
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def _refuse_misspelt(self, word: str) -> None:
        if word.startswith("-") or not word.isalpha() or os.path.lexists(word):
            return
        near = get_close_matches(word, self.commands, 1)
        meant = f"did you mean {near[0]}?" if near else "`captioner --help` lists the commands"
        _complain(f"{word}: neither a command nor a file; {meant}")
        raise typer.Exit(USAGE)


_TEXTS = {
    "context_settings": {"help_option_names": ["-h", "--help"]},
    "no_args_is_help": True,
    "rich_markup_mode": None,  # plain help needs no rich, which takes as long to import as everything else together
}
app = typer.Typer(
    cls=Commands,
    help="Says what is in photographs and videos: captions, actions, unusual moments. On a CPU, offline.\n\n"
    "captioner PATH... is short for captioner describe PATH...",
    epilog="Exit status: 0 everything worked, 1 some input failed, 2 wrong usage. Results go to standard output, "
    "everything else to standard error.",
    pretty_exceptions_enable=False,
    **_TEXTS,
)
train_app = typer.Typer(help="Trains a model on your own data.", **_TEXTS)
app.add_typer(train_app, name="train")

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and failures.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more: which model, how computed, how long.")]


def command(owner: typer.Typer, name: str, cls: type[TyperCommand] = TyperCommand) -> Callable:
    """A command whose errors become one line on standard error and an exit status; adds ``--quiet``, ``--verbose``."""

    def decorate(function: Callable[..., int | None]) -> Callable:
        def run(context: typer.Context, quiet: Quiet = False, verbose: Verbose = False, **kwargs):
            _context.set(context)
            begin = time.monotonic()
            try:
                progress.talk(quiet=quiet, verbose=verbose)
                status = function(**kwargs)
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
            _LOG.info("%s took %.1f s", name, time.monotonic() - begin)
            progress.talk()
            raise typer.Exit(status or 0)

        own = inspect.signature(function, eval_str=True).parameters.values()
        context, *talk, _ = inspect.signature(run, eval_str=True).parameters.values()
        functools.update_wrapper(run, function)
        run.__signature__ = inspect.Signature([context, *own, *talk])
        run.__annotations__ = {one.name: one.annotation for one in run.__signature__.parameters.values()}
        del run.__wrapped__
        return owner.command(name, cls=cls)(run)

    return decorate


def _complain(text: str) -> int:
    print(f"captioner: {printable(text)}", file=sys.stderr)
    return USAGE


def refuse_idle(why: str, *names: str) -> None:
    """Refuses options that were given, although they do nothing.

    Args:
        why: The end of the sentence, such as "needs a folder as --output".
        *names: Parameters of the command that runs.

    Raises:
        CaptionerError: One of them was given (``kind="usage"``).
    """
    context = _context.get()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name).name == "COMMANDLINE":
            raise CaptionerError(f"{parameter.opts[0]} {why}", kind="usage")


def _model_names(incomplete: str) -> list[str]:
    from captioner.models.saving import model_names

    return [name for name in model_names() if name.startswith(incomplete)]


def _completing(*names: str) -> Callable[[str], list[str]]:
    """Completion of names, also of the last one in a comma-separated list."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + name for name in names if name.startswith(last)]

    return complete


def choice(*names: str, **option) -> typer.models.OptionInfo:
    """An option that knows its values: they are completed, and listed in the help where it says no more."""
    option.setdefault("help", f"{', '.join(names[:-1])} or {names[-1]}.")
    return typer.Option(autocompletion=_completing(*names), **option)


# Defaults of options that are None here are those of the package; what help shows for them is checked by a test.
Paths = Annotated[list[str], typer.Argument(help="Files and folders.", metavar="PATH...")]
PhotoPaths = Annotated[
    list[str], typer.Argument(help="Files and folders; - is a photo on standard input.", metavar="PATH...")
]
Model = Annotated[
    str | None,
    typer.Option(help="Name of a shipped model, or a model folder.", metavar="NAME|DIR", autocompletion=_model_names),
]
Classifier = Annotated[
    str | None,
    typer.Option(
        help="A clip classifier, or none.", metavar="NAME|DIR|none", show_default="the shipped one",
        autocompletion=lambda incomplete: [*_model_names(incomplete), *_completing("none")(incomplete)],
    ),
]  # fmt: skip
BeamSize = Annotated[int | None, typer.Option(help="Captions followed at once; 1 is greedy.", show_default="3")]
NBest = Annotated[int | None, typer.Option(help="Captions to give for each image, best first.", show_default="1")]
MaxLength = Annotated[int | None, typer.Option(help="Most words of a caption.", show_default="20")]
MinLength = Annotated[int | None, typer.Option(help="Fewest words of a caption.", show_default="1")]
LengthPenalty = Annotated[
    float | None, typer.Option(help="Power of the length that divides log-probabilities.", show_default="0.9")
]
Strategy = Annotated[str | None, choice("beam", "greedy", "sample", show_default="beam")]
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
Language = Annotated[
    str,
    typer.Option(
        help="Captions also in the languages of the translator, such as de, several with commas; clip.de.srt.",
        show_default="English alone",
    ),
]
TranslatorFolder = Annotated[
    str | None,
    typer.Option(
        "--translator", help="What translates for --language: a folder that `captioner train translation` made.",
        metavar="NAME|DIR",
    ),
]  # fmt: skip
BatchSize = Annotated[int, typer.Option(help="Images computed together; results do not depend on it.")]
Format = Annotated[
    str | None, choice("text", "json", "jsonl", "csv", show_default="by the name of --output, else text")
]
CsvBom = Annotated[
    bool, typer.Option("--csv-bom", help="Begin CSV with a byte order mark, by which spreadsheets know UTF-8.")
]
MarkUnsure = Annotated[
    bool | None,
    typer.Option(
        "--mark-unsure/--no-mark-unsure", help="End captions not to be trusted with the reason, in text.",
        show_default="on a terminal",
    ),
]  # fmt: skip
Runtime = Annotated[str, choice("auto", "openvino", "keras")]
Precision = Annotated[str, choice("auto", "f32", "bf16", "int8")]
Threads = Annotated[int | None, typer.Option(help="Cores to use.", show_default="all")]
TimeLimit = Annotated[float, typer.Option(help="Seconds that a file may take before it counts as failed.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed in an earlier run.")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Make results again that are there already; replace a file of others."),
]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace a file of others.")]
Prune = Annotated[bool, typer.Option("--prune", help="Drop the results of files that are gone.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Files and folders to pass over, for example 'thumb*' or '2019/raw'; may be given several times.",
        metavar="PATTERN",
    ),
]
Engine = Annotated[str, choice("local", "ray", help="local, or ray (needs the extra `ray`).")]

FOLDER_OPTIONS = ("formats", "time_limit", "retry_failed", "prune", "engine")
"""What does nothing where results do not go to a folder."""


def given(**options) -> dict:
    """The options that were given; for the others the defaults of the package hold."""
    return {name: value for name, value in options.items() if value is not None}


def listed(text: str, known: Sequence[str]) -> list[str]:
    """The names in a comma-separated list.

    Raises:
        CaptionerError: One is not known (``kind="usage"``).
    """
    chosen = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise CaptionerError(f"unknown format {name!r}; known: {', '.join(known)}", kind="usage")
    return chosen
