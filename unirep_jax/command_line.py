"""What the command lines share: quiet libraries, and mistakes and signals that end in one line."""

import contextlib
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

from absl import app, flags, logging

from unirep_jax.config_arguments import suggest
from unirep_jax.terminal import escape_what_cannot_be_shown, say
from unirep_jax.train.signals import Interrupted


def start(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and calls `main`; a setting that does not exist is named with its like."""
    escape_what_cannot_be_shown()
    sys.argv = [sys.argv[0], *shipped_configurations(sys.argv[1:])]
    logging.set_verbosity(logging.WARNING)
    try:
        app.run(main, flags_parser=_parse)
    except KeyboardInterrupt:
        print("SIGINT: ended", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def shipped_configurations(arguments: list[str]) -> list[str]:
    """The arguments with the names of shipped configurations in place as files.

    `--config=oscmg:dcid` is `--config=.../oscmg.py:dcid`, of the package where it was installed, of
    the folder configs/ beside it in a clone; files that exist are left as they are. So for
    --variants.
    """
    result, before = [], ""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag.lstrip("-") in ("config", "variants") and equals:
            argument = f"{flag}={_shipped(value)}"
        elif before.lstrip("-") in ("config", "variants"):
            argument = _shipped(argument)
        before = "" if equals else argument
        result.append(argument)
    return result


def _shipped(value: str) -> str:
    name, colon, rest = value.partition(":")
    if Path(name).exists():
        return value
    package = Path(__file__).parent
    folders = [f for f in (package / "configs", package.parent / "configs") if f.is_dir()]
    stem = name.removeprefix("configs/").removesuffix(".py")
    for folder in folders:
        if (folder / f"{stem}.py").is_file():
            return f"{folder / stem}.py{colon}{rest}"
    if "/" in name or name.endswith(".py"):
        return value
    known = sorted({file.stem for folder in folders for file in folder.glob("*.py")})
    sys.exit(f"error: no file {name!r}, nor a configuration of that name{suggest(name, known)}")


@contextlib.contextmanager
def answering(failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """Ends the process with one line for what the user can change, and after a signal."""
    try:
        yield
    except Interrupted as stop:
        say(f"{stop}; run the same command to continue")
        sys.exit(stop.code)
    except failures as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except MemoryError as error:
        sys.exit(f"error: out of memory: {' '.join(str(error).split()) or 'of the machine'}")
    except RuntimeError as error:  # of JAX, whose class is only known once it is imported
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        sys.exit(f"error: out of memory of the device: {reason}; a smaller batch_size may fit")


def _parse(arguments: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(arguments)
    except flags.Error as error:
        missing = "--config must have a value other than None" in str(error)
        message = "--config is missing" if missing else _in_one_line(str(error))
        sys.exit(f"error: {message}{_meant(arguments)}")
    except SyntaxError as error:  # of the configuration, which is Python
        sys.exit(f"error: --config: {error.filename}:{error.lineno}: {error.msg}")
    except (AttributeError, KeyError) as error:  # ml_collections, of a key that is not there
        inner = error.args[0]  # another exception, whose text it is
        text = " ".join(str(inner.args[0] if isinstance(inner, Exception) else inner).split())
        if "no attribute 'get_config'" in text:
            sys.exit("error: --config: the file defines no get_config()")
        sys.exit(f"error: no setting {text}{_nearest_setting(arguments, text)}")
    if len(rest) > 1:
        sys.exit(f"error: unexpected argument {rest[1]!r}")
    return rest


def _nearest_setting(arguments: list[str], text: str) -> str:
    """The setting of the configuration that is most like the first one that it does not have."""
    names = [a.lstrip("-").partition("=")[0] for a in arguments]
    names = [n.removeprefix("config.") for n in names if n.startswith("config.")]
    given = [a.partition("=")[2] for a in arguments if a.lstrip("-").startswith("config=")]
    if not given or "Did you mean" in text:
        return ""
    path, _, argument = given[-1].partition(":")
    get_config = runpy.run_path(path)["get_config"]  # which has just been run without error
    known = _dotted(get_config(argument) if argument else get_config())
    return next((suggest(name, known) for name in names if name not in known), "")


def _dotted(config: Any, before: str = "") -> list[str]:
    """Names of all settings and sections, with dots."""
    found = []
    for name, value in config.items():
        found.append(f"{before}{name}")
        if callable(getattr(value, "items", None)):
            found += _dotted(value, f"{before}{name}.")
    return found


def _in_one_line(message: str) -> str:
    """What is wrong with a flag; a traceback only for an error in the user's own configuration."""
    flag, trace, _ = message.partition(": Error whilst parsing config file")
    if not trace:
        return " ".join(message.split())
    last = message.strip().splitlines()[-1].strip()
    kind, _, reason = last.partition(": ")
    return f"{flag}: {reason}" if kind == "ValueError" else message  # as get_config refuses


def _meant(arguments: list[str]) -> str:
    first = next((a for a in arguments[1:] if not a.startswith("-")), "")
    return f"; did you mean --config={first}?" if first.partition(":")[0].endswith(".py") else ""
