"""recipe.json: the settings that a folder of converted features was made with."""

import json
from pathlib import Path
from typing import Any

from unirep_jax.data.files import read_text
from unirep_jax.data.limits import TEXT_BYTES


def check_recipe(path: Path, recipe: dict[str, Any], *, maker: str) -> dict[str, Any]:
    """The recipe at `path`, which is that of a folder that exists, and agrees with `recipe`.

    Args:
      path: of the JSON file inside the folder.
      recipe: settings that have to be the same there.
      maker: what writes such folders, for the error.

    Raises:
      FileExistsError: there is none, it is damaged, or a setting differs.
    """
    folder = path.parent
    if not path.exists():
        raise FileExistsError(f"{folder} exists and was not made by {maker}; choose another folder")
    try:
        found = dict(json.loads(read_text(path, TEXT_BYTES)))
    except (ValueError, TypeError, RecursionError) as error:
        raise FileExistsError(f"{path} is damaged ({error}): choose another folder") from error
    changed = [f"{k}={found.get(k)!r}, now {v!r}" for k, v in recipe.items() if found.get(k) != v]
    if changed:
        raise FileExistsError(f"{folder} was made with {'; '.join(changed)}: choose another folder")
    return found
