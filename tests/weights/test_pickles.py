"""What torch's safe reader would do: calls that take the memory, keys that crash it or never end."""

import os
import resource
import sys
import time
import traceback
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.weights.torchfiles import read_torch

HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x01"  # 2^40


def calling(function, argument):
    return b"\x80\x02}X\x01\x00\x00\x00ac" + function + b"\n" + argument + b"\x85Rs."


BOMBS = {
    "bytearray": calling(b"__builtin__\nbytearray", HUGE),
    "torch.Tensor": calling(b"torch\nTensor", HUGE),
    "torch.storage.UntypedStorage": calling(b"torch.storage\nUntypedStorage", HUGE),
    "torch.Tensor ": b"\x80\x02}X\x01\x00\x00\x00actorch\nTensor\n" + HUGE + b"\x85\x81s.",  # without a call
    "a dict with tuple as a key": b"\x80\x02})" + b"\x85" * 400_000 + b"Ns.",  # its hash overflows the stack
    "a dict with tuple as a key ": b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns.",  # its hash takes years
    "set with arguments that torch does not write": (
        b"\x80\x02c__builtin__\nset\n])" + b"q\x00h\x00\x86" * 60 + b"a\x85R."
    ),
    "_codecs.encode with arguments that torch does not write": (
        b"\x80\x02c_codecs\nencode\nX\x04\x00\x00\x00abcdX\x08\x00\x00\x00punycode\x86R."
    ),
    "a storage of 1099511627776 numbers": (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + HUGE + b"tQ."
    ),
    "collections.Counter with a state of its own": b"\x80\x02ccollections\nCounter\n)R}b.",
}  # fmt: skip


def archive(path, code):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", code)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/data/0", b"\0" * 8)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
@pytest.mark.parametrize("words", BOMBS)
def test_pickles_that_take_the_memory_or_the_day(words, tmp_path):
    """In a process of its own: without the check some of them end it, or never end."""
    archive(tmp_path / "a.pt", BOMBS[words])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * os.sysconf("SC_PAGESIZE") + 2**30
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 10, -1))  # a refusal takes 0.1 s
            with pytest.raises(WeightsMismatchError, match=rf"a\.pt holds {words.strip()}"):
                read_torch(tmp_path / "a.pt")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_programs_write_is_read(zipped, tmp_path):
    """All that torch puts beside tensors: states of optimisers and schedules, bytes, sets, numbers of any size."""
    net = nn.Linear(2, 3)
    optimiser = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2])
    net(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    content = {
        "state_dict": net.state_dict(),
        "parameter": net.weight,
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "counter": Counter({"a": 2}),
        "ordered": OrderedDict(a=1),
        "set": {1, "b"},
        "bytes": b"\xff\x00abc",
        "numbers": [10**30, -5, 1.5, 1j, True, None],
        "nested": {"a": [(1, 2, 3, 4, (5,))]},
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.bfloat16,
        "text": "\u2028é",
        "expanded": torch.ones(2).expand(3, 2),
        "half": torch.ones(3, dtype=torch.bfloat16),
        3: "a number as a key",
    }
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    again = read_torch(tmp_path / "a.pt")
    assert again.keys() == content.keys()
    plain = [name for name in content if name not in ("state_dict", "parameter", "optimiser", "expanded", "half")]
    assert all(again[name] == content[name] for name in plain)
    assert again["expanded"].equal(content["expanded"])
    assert again["state_dict"]["weight"].equal(net.weight)
