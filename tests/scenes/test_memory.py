"""Memory does not grow with the height of a scene, and time grows as its pixels do."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window
from stubs import UTM, blobs

CODE = """
    import json, resource, sys, time
    sys.path.insert(0, sys.argv[1])
    import torch
    from rrsis_zoo.scenes import segment_scene
    from stubs import Stub
    torch.set_num_threads(1)

    def peak():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

    model = Stub(256)
    segment_scene(model, sys.argv[2], ["red"], find="all")  # imports
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before, measured = peak(), []
    # three times: only then has the allocator what it needs for any number of windows
    for path in (sys.argv[3], sys.argv[3], sys.argv[3], sys.argv[4]):
        start = time.process_time()
        table = segment_scene(model, path, ["red"], find="all")
        measured.append([peak() - before, time.process_time() - start, len(table)])
    print(json.dumps(measured[2:]))
"""


def scene(path, height, width=2000):
    rows = blobs(500, width, cell=300)
    options = {"crs": "EPSG:32633", "transform": UTM, "tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8", compress="LZW", **options
    ) as file:
        for top in range(0, height, 500):
            turned = np.roll(rows, 37 * top, axis=1)[: height - top]
            file.write(turned.transpose(2, 0, 1), window=Window(0, top, width, len(turned)))
    return path


@pytest.mark.slow
def test_memory_and_time(tmp_path):
    """2,000 x 4,000 and 2,000 x 40,000 pixels, by a model that costs nothing."""
    paths = [scene(tmp_path / f"{height}.tif", height) for height in (400, 4000, 40000)]
    words = [sys.executable, "-c", textwrap.dedent(CODE), str(Path(__file__).parent), *map(str, paths)]
    one_heap = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # the peak is then the same in every run
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=one_heap)
    assert done.returncode == 0, done.stderr
    (memory, seconds, found), (tall_memory, tall_seconds, tall_found) = json.loads(done.stdout.splitlines()[-1])
    assert tall_found > 8 * found
    # a mask of the 36,000 further rows would be 69 MiB, their picture 206
    assert tall_memory < memory + 25, f"{memory:.0f} MiB, and {tall_memory:.0f} MiB for ten times the rows"
    assert 5 * seconds < tall_seconds < 15 * seconds
