"""Tables, figures and pages of runs. Figures are drawn into files, and need no backend."""

import contextlib
import os
import sys

if "matplotlib" not in sys.modules:
    # An MPLBACKEND that Matplotlib does not know, left over from a notebook or mistyped, fails its
    # import, and would end a run that has trained. So it is set afterwards, where it is known.
    _backend = os.environ.pop("MPLBACKEND", None)
    with contextlib.suppress(ImportError):  # tables need no Matplotlib
        import matplotlib

        if _backend is not None:
            os.environ["MPLBACKEND"] = _backend
            with contextlib.suppress(ValueError):
                matplotlib.rcParams["backend"] = _backend
