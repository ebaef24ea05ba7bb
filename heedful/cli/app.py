"""The app, and the edge of the process where errors become one line and an exit code."""

import errno
import sys
from typing import Any

import typer

from heedful.cli import (
    ask,
    bench,
    data,
    demo,
    evaluate,
    fit,
    forget,
    quality,
    rank,
    score,
    serve,
    studio,
    trace,
    work,
)
from heedful.errors import HeedfulError, ResourceError

INTERRUPTED = 130
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
# what a wrong command line raises: click's own class, or that of the copy which newer typers bring
USAGE: Any = next(one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException")
# modules that only the pages need
OF_STUDIO = (
    *("fastapi", "httpx", "jinja2", "markdown_it", "markupsafe", "math_core", "multipart", "nh3"),
    *("pwdlib", "pygments", "python_multipart", "starlette", "uvicorn"),
)
app = typer.Typer(
    name="heedful",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Preferences in, a better policy out.",
)
app.command("demo")(demo.demo)
app.command("import")(data.import_file)
app.command("export")(data.export_file)
app.command("snapshot")(data.snapshot)
app.add_typer(fit.app, name="fit")
app.add_typer(evaluate.app, name="evaluate")
app.command("score")(score.score)
app.add_typer(serve.app, name="serve")
app.command("ask")(ask.ask)
app.command("rank")(rank.rank)
app.command("studio")(studio.studio)
app.command("forget")(forget.forget)
app.command("quality")(quality.quality)
app.command("up")(work.up)
app.command("work")(work.work)
app.command("bench")(bench.bench)
app.command("models")(trace.models)
app.command("trace")(trace.trace)


def main() -> None:
    """Run the command line; exit 0, 1 (ours or the machine's fault) or 2 (the user's to mend)."""
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into this
            raise KeyboardInterrupt
    except USAGE as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        fail(
            "interrupted; nothing is lost or half-written: give the same command again", INTERRUPTED
        )
    except HeedfulError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno in FORBIDDEN:
            fail(f"{error.filename}: {error.strerror}; choose a place that you may write to", 2)
        if error.errno != errno.ENOSPC:
            raise
        full = ResourceError(f"the disk is full ({error.filename}); free some space and repeat")
        fail(str(full), full.exit_code)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("heedful"):
            raise
        extra = "studio" if error.name.partition(".")[0] in OF_STUDIO else "train"
        fail(f"{error.name} is not installed; run: pip install 'heedful[{extra}]'", 2)
    sys.exit(code or 0)


def fail(message: str, code: int) -> None:
    """One line on stderr, and the exit code."""
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)
