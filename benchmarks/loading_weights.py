"""Memory and time that loading takes at published sizes, from files of noise in the released layouts.

    make loading-weights                                                    # RSRefSeg-b: about 10 GB of disk
    make loading-weights ARGS="--model rsrefseg2 --preset l --folder /big"  # about 14 GB

Each way of loading runs in a process of its own, which then reads every weight once. `size` is what the model's
parameters and buffers take in the model's dtype; `peak` is that process's resident memory at its highest, mapped file
pages included; `before` is what Python, the libraries and the empty model took before.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "folder": "a folder of ours, float32",
    "folder bf16": "a folder of ours, bf16",
    "official bf16": "the authors' torch file, bf16, without conversion",
    "convert bf16": "that file converted into a folder",
}


def high_water() -> float:
    """Highest resident memory of this process so far, in GB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise SystemExit("this needs Linux's /proc/self/status")


def write_noise(path: Path, shapes: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Write a safetensors file of small noise without holding it in memory."""
    import torch

    dtypes = {"torch.float32": "F32", "torch.bfloat16": "BF16", "torch.int64": "I64"}
    header, sizes, start = {}, {}, 0
    for name, (dtype, shape) in shapes.items():
        sizes[name] = torch.Size(shape).numel() * {"F32": 4, "BF16": 2, "I64": 8}[dtypes[dtype]]
        header[name] = {"dtype": dtypes[dtype], "shape": list(shape), "data_offsets": [start, start + sizes[name]]}
        start += sizes[name]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = {"torch.int64": bytes(1 << 16)}
    for dtype in (torch.float32, torch.bfloat16):
        values = 0.02 * torch.randn(1 << 22)
        noise[str(dtype)] = values.to(dtype).view(torch.uint8).numpy().tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (dtype, _) in shapes.items():
            left = sizes[name]
            while left:
                left -= file.write(noise[dtype][:left])


def prepare(folder: Path, method: str, preset: str, way: str) -> None:
    """Write the file that a way of loading starts from."""
    import torch

    from rrsis_zoo.methods.registry import method_named
    from rrsis_zoo.pretrained.official import official_names, skeleton
    from rrsis_zoo.weights.files import read_state_dict
    from rrsis_zoo.weights.folders import write_folder

    model = skeleton(method_named(method).model(), preset)

    def dtype(tensor: torch.Tensor) -> str:
        return "torch.bfloat16" if way.endswith("bf16") and tensor.is_floating_point() else str(tensor.dtype)

    shapes = {name: (dtype(t), tuple(t.shape)) for name, t in model.state_dict().items()}
    if way.startswith("folder"):
        write_folder(folder, model.description(), {})
        write_noise(folder / "model.safetensors", shapes)
        return
    names = official_names(model)
    write_noise(folder / "noise.safetensors", {names[name]: what for name, what in shapes.items()})
    state = read_state_dict(folder / "noise.safetensors")
    torch.save({"state_dict": {name: tensor.clone() for name, tensor in state.items()}}, folder / "official.pth")
    (folder / "noise.safetensors").unlink()


def measure(folder: Path, method: str, preset: str, way: str) -> dict[str, object]:
    """Load, read everything once, and say what it took."""
    import torch

    from rrsis_zoo.loading import load_model
    from rrsis_zoo.methods.registry import method_named
    from rrsis_zoo.pretrained.official import convert, fill_official, skeleton

    model = skeleton(method_named(method).model(), preset)
    before = high_water()
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 1e9
    start = time.perf_counter()
    if way.startswith("convert"):
        convert(model, folder / "official.pth", folder / "ours")
    elif way.startswith("official"):
        fill_official(model, folder / "official.pth")
    else:
        model = load_model(folder)
    loaded = time.perf_counter() - start
    if not way.startswith("convert"):
        with torch.no_grad():
            assert all(t.sum().isfinite() for t in model.state_dict().values())
    peak = high_water()
    return {
        "model": f"{method} {preset}",
        "way": way,
        "size_GB": round(size, 2),
        "before_GB": round(before, 2),
        "peak_GB": round(peak, 2),
        "peak_over_size": round(peak / size, 3),
        "load_s": round(loaded, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rsrefseg")
    parser.add_argument("--preset", default="b")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary one")
    parser.add_argument("--step", choices=("prepare", "measure"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "prepare":
        prepare(options.folder, options.model, options.preset, options.ways[0])
        return
    if options.step == "measure":
        print(json.dumps(measure(options.folder, options.model, options.preset, options.ways[0])))
        return
    for way in options.ways:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            command = [sys.executable, __file__, "--model", options.model, "--preset", options.preset]
            command += ["--folder", folder, "--ways", way, "--step"]
            subprocess.run([*command, "prepare"], check=True)
            done = subprocess.run([*command, "measure"], check=True, stdout=subprocess.PIPE, text=True)
            print(done.stdout, end="", flush=True)


if __name__ == "__main__":
    main()
