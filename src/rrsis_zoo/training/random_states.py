"""The states of the random number generators of every process, in a form for checkpoints."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """Return the states of this process's generators: torch's (used by dropout), NumPy's and Python's.

    The order and augmentation of the samples do not need them: they follow from seed and epoch.
    """
    _, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - callbacks may use the global one
    version, words, following = random.getstate()
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": {
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "place": int(place),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "python": {"version": version, "words": torch.tensor(words), "gauss": following},
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Restore the result of ``random_states``; CUDA's states only if the number of devices is the same."""
    torch.set_rng_state(states["cpu"])
    if len(states["cuda"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        torch.cuda.set_rng_state_all(states["cuda"])
    if "numpy" in states:  # older checkpoints only have torch's
        n, p = states["numpy"], states["python"]
        np.random.set_state(  # noqa: NPY002
            ("MT19937", n["keys"].numpy().astype(np.uint32), n["place"], n["has_gauss"], n["gauss"])
        )
        random.setstate((p["version"], tuple(p["words"].tolist()), p["gauss"]))


def of_all_processes() -> list[dict[str, Any]]:
    """Return the states of every process, by rank; all processes must call it together."""
    mine = random_states()
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, mine)
    return gathered
