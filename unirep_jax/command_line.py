"""What the command lines share: quiet libraries, flags whose mistakes end in one line."""

import os
import sys
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

from absl import app, logging


def start(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and calls `main`; a setting that does not exist is named with its like."""
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
    try:
        rest = app.parse_flags_with_usage(arguments)
    except (AttributeError, KeyError) as error:  # ml_collections, of a key that is not there
        inner = error.args[0]  # another exception, whose text it is
        text = str(inner.args[0] if isinstance(inner, Exception) else inner)
        sys.exit(f"error: no setting {' '.join(text.splitlines())}")
    if len(rest) > 1:
        sys.exit(f"error: unexpected argument {rest[1]!r}")
    return rest
