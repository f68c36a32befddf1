"""Text for whoever reads it: terminals without Unicode, or nobody any more."""

import contextlib
import sys


def say(text: str) -> None:
    """Prints at once. What the terminal cannot show is escaped; it may be closed."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError):
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def escape_what_cannot_be_shown() -> None:
    """From now on, printing never fails for a letter that the terminal does not have."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
