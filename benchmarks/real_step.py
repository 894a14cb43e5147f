"""One real training step of a published configuration at full size, from files in the released layout.

    make real-step                             # rsrefseg_b on a CPU, made images
    make real-step ARGS="--config configs/rsrefseg.yaml"
    make real-step ARGS="--config configs/rs2sam2.yaml"

No weights can be downloaded in a test, so the files hold noise; names, shapes, dtypes and formats are those of
facebook/sam-vit-* and google/siglip-so400m-patch14-384, or of facebook/sam2-hiera-large and BEiT-3 large. Everything
else is the real thing: the published config through `rrsis fit`, base weights through their sources, one step of batch
1 at 1024 px, a checkpoint at the end. Prints the times and the peak resident memory of that process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from rrsis_zoo.data.layouts import Referent, Scene, write_rrsisd
from rrsis_zoo.models.backbones.sam import SAM, SAM_B, SAM_L
from rrsis_zoo.models.backbones.siglip import SigLIP, SigLIPConfig
from rrsis_zoo.models.rs2sam2 import RS2SAM2
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, SigLIPTokenizer
from rrsis_zoo.weights.names import sam_to_transformers

EXPRESSIONS = ["the ship left of the pier", "a large storage tank in the upper right corner of the image"]


def noise(shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Small noise; norm scales around 1, so that a forward pass stays finite."""
    torch.manual_seed(0)
    out = {}
    for name, shape in shapes.items():
        values = 0.02 * torch.randn(shape)
        out[name] = values + 1 if len(shape) == 1 and name.endswith("weight") else values
    return out


def write_rs2sam2(folder: Path) -> dict[str, str]:
    with torch.device("meta"):
        model = RS2SAM2.from_preset("l")
    sam = {k: v.shape for k, v in model.sam.state_dict().items() if ".fusion." not in k and ".adapter." not in k}
    union = {f"beit3.{k}": v.shape for k, v in model.union.state_dict().items()}
    torch.save({"model": noise(sam)}, folder / "sam2_hiera_large.pt")
    torch.save({"model": noise(union)}, folder / "beit3_large_patch16_224.pth")
    tokenizer = BEiT3Tokenizer.from_expressions(EXPRESSIONS * 20, 64000, 1022)
    (folder / "beit3.spm").write_bytes(tokenizer.model)
    return {"sam": f"local:{folder}", "beit3": f"local:{folder}"}


def write_rsrefseg(folder: Path, sam: str) -> dict[str, str]:
    with torch.device("meta"):
        sam_shapes = {k: v.shape for k, v in SAM({"b": SAM_B, "l": SAM_L}[sam]).state_dict().items()}
        siglip_shapes = {k: v.shape for k, v in SigLIP(SigLIPConfig()).state_dict().items()}
    names = sam_to_transformers(sam_shapes)
    hf = {names[k]: shape for k, shape in sam_shapes.items() if not k.startswith("prompt_encoder.pe_layer")}
    (folder / "sam").mkdir()
    (folder / "siglip").mkdir()
    save_file(noise(hf), folder / "sam" / "model.safetensors")
    save_file(noise(siglip_shapes), folder / "siglip" / "model.safetensors")
    tokenizer = SigLIPTokenizer.from_expressions(EXPRESSIONS * 20, 32000, 64)
    (folder / "siglip" / "spiece.model").write_bytes(tokenizer.model)
    return {"sam": f"local:{folder / 'sam'}", "siglip": f"local:{folder / 'siglip'}"}


def write_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = []
    for split in ("train", "val", "test"):
        image = rng.integers(0, 256, (800, 800, 3), dtype=np.uint8)
        mask = np.zeros((800, 800), dtype=np.bool_)
        mask[100:300, 200:500] = True
        scenes.append(Scene(image, [Referent(mask, [EXPRESSIONS[len(scenes) % 2]], "ship")], split))
    write_rrsisd(folder, scenes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/rsrefseg_b.yaml")
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary files go (4 to 15 GB)")
    options = parser.parse_args()
    config = Path(options.config).resolve()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        if "rs2sam2" in config.name:
            sources = write_rs2sam2(folder)
        else:
            sources = write_rsrefseg(folder, "b" if "rsrefseg_b" in config.name else "l")
        write_data(folder / "data")
        command = [sys.executable, "-m", "rrsis_zoo.cli", "fit", "--config", str(config)]
        command += ["--config", str(config.parent / "overlays/cpu.yaml")] if not torch.cuda.is_available() else []
        command += ["--data.root", str(folder / "data"), "--data.batch_size", "1", "--data.num_workers", "0"]
        command += ["--model.init_args.weights", json.dumps(sources), "--trainer.max_steps", "1"]
        command += ["--trainer.accumulate_grad_batches", "1", "--trainer.limit_val_batches", "0"]
        start = time.perf_counter()
        done = subprocess.run(command, check=False, cwd=folder)  # its checkpoint is gigabytes and goes with the folder
        wall = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(done.returncode)
        result = {
            "config": options.config,
            "wall_s": round(wall, 1),
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "peak_resident_GB": round(used.ru_maxrss / 2**20, 2),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
