"""The command line: parse, make the one call, show progress. No torch before it is needed."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from . import cli_animate, cli_arrows, cli_controls, cli_data, cli_eval, cli_long, cli_metrics, cli_models, cli_train
from .errors import VivantError

app = typer.Typer(
    name="vivant", help="Bring a painting to life from a sentence.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        print(f"vivant {__version__}")
        raise typer.Exit


@app.callback()
def vivant(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Bring a painting to life from a sentence."""


train_app = typer.Typer(help="Train a model with the project's own recipes.", no_args_is_help=True)
eval_app = typer.Typer(
    help="Measure: does what was named move, where it was told, and is the rest still?", no_args_is_help=True
)
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")

# Registered in the order of use, which is the order of the help.
cli_animate.register(app)
cli_train.register(train_app)
cli_models.register(app)
cli_arrows.register(app, train_app)
cli_controls.register(app, eval_app)
cli_data.register(app)
cli_eval.register(app, eval_app)
cli_long.register(app, eval_app)
cli_metrics.register(app)

USAGE: Any = typer.BadParameter.__mro__[1:3]
"""what typer raises for a command line that cannot be understood: its own copies of click's classes"""


def run(call: Callable[[], object]) -> int:
    """Run a command; errors become one line and an exit code: 0 done, 2 bad input, 1 anything else, 130 interrupted."""
    try:
        code = call()
    except VivantError as error:
        print(f"vivant: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except USAGE as error:
        return _usage(error)
    except typer.Abort:
        print("vivant: expected a yes, got none; nothing was done", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        return 1
    except RecursionError:
        # Nothing here calls itself without end but the readers of files.
        print("vivant: expected a file of few lists in lists, got one nested too deep to read", file=sys.stderr)
        return 2
    except Exception as error:
        # The last resort: a fault of ours still ends in one line; VIVANT_DEBUG=1 shows where it was.
        if os.environ.get("VIVANT_DEBUG"):
            raise
        print(f"vivant: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        return 1
    if code == 130:  # typer makes a code of an interruption; who has more to say of it leaves by SystemExit
        print("vivant: stopped; nothing was written", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> int:
    """What was wrong with the command line, in one line; a command that was given nothing at all shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    said = " ".join(error.format_message().split()).rstrip(".")
    place = error.ctx.command_path if getattr(error, "ctx", None) is not None else "vivant"
    print(f"vivant: {said[:1].lower()}{said[1:]}; see {place} --help", file=sys.stderr)
    return 2


def _quiet() -> None:
    """Remarks that libraries make to programmers are no news to a user; VIVANT_DEBUG=1 shows them."""
    if os.environ.get("VIVANT_DEBUG") or sys.warnoptions:
        return
    warnings.simplefilter("ignore")
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the console script."""
    # A job that is ended politely leaves as little behind as one that is interrupted at the keyboard.
    signal.signal(signal.SIGTERM, _interrupt)
    _quiet()
    sys.exit(run(lambda: app(standalone_mode=False)))


if __name__ == "__main__":
    main()
