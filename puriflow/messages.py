"""What PuriFlow says while it works: a line on standard error for each record of its logger.

Standard output is for results. All modules log below the logger `puriflow`, whose level says how
much is said: what is being done (INFO), with `--verbose` also by what (DEBUG), with `--quiet` only
what was lost or is wrong (WARNING, ERROR). From Python, `logging.getLogger("puriflow")` takes a
level or other handlers as any logger does.
"""

import logging
import sys

BEHIND_RESULTS = False
LOGGER = logging.getLogger("puriflow")


class OnStderr(logging.Handler):
    """Writes a record as a line, to whatever standard error is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # as every handler does: nothing fails for what is said of it
            self.handleError(record)


class Line(logging.Formatter):
    """`puriflow: ` and the message, as `puriflow status` reads it; of an error it says so."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        kind = "error: " if record.levelno >= logging.ERROR else ""
        return f"puriflow: {kind}{record.message}"


def speak() -> None:
    """Let the logger say what is being done, unless somebody has given it a level or handlers."""
    if not LOGGER.handlers:
        handler = OnStderr()
        handler.setFormatter(Line())
        LOGGER.addHandler(handler)
        LOGGER.propagate = False  # or a root logger that is set up would say it again
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(logging.INFO)


def is_quiet() -> bool:
    """Whether what is being done is not to be said, and no progress shown."""
    return not LOGGER.isEnabledFor(logging.INFO)
