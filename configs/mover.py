"""configs/retrieval.py under its former name, which goes with version 0.3."""

import runpy
import sys
from pathlib import Path

print("configs/mover.py is now configs/retrieval.py", file=sys.stderr)
_retrieval = runpy.run_path(str(Path(__file__).with_name("retrieval.py")))
get_config, get_variants = _retrieval["get_config"], _retrieval["get_variants"]
