"""One real training step of a published configuration at full size, from files in the released layout.

    make real-step                             # rsrefseg_b on a CPU, made images
    make real-step ARGS="--config configs/rsrefseg.yaml"

No weights can be downloaded in a test, so the files hold noise; names, shapes, dtypes and formats are those of
facebook/sam-vit-* and google/siglip-so400m-patch14-384. Everything else is the real thing: the published config through
`rrsis fit`, base weights through their sources, one step of batch 1 at 1024 px, a checkpoint at the end; then a second
step by a new process that resumes from it. Prints the times and the peak resident memory of the first process.
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
from rrsis_zoo.models.tokenizers import SigLIPTokenizer
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


def write_weights(folder: Path, sam: str) -> None:
    with torch.device("meta"):
        sam_shapes = {k: v.shape for k, v in SAM({"b": SAM_B, "l": SAM_L}[sam]).state_dict().items()}
        siglip_shapes = {k: v.shape for k, v in SigLIP(SigLIPConfig()).state_dict().items()}
    names = sam_to_transformers(sam_shapes)
    hf = {names[k]: shape for k, shape in sam_shapes.items() if not k.startswith("prompt_encoder.pe_layer")}
    (folder / "sam").mkdir(parents=True)
    (folder / "siglip").mkdir()
    save_file(noise(hf), folder / "sam" / "model.safetensors")
    save_file(noise(siglip_shapes), folder / "siglip" / "model.safetensors")
    tokenizer = SigLIPTokenizer.from_expressions(EXPRESSIONS * 20, 32000, 64)
    (folder / "siglip" / "spiece.model").write_bytes(tokenizer.model)


def write_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = []
    for split in ("train", "val", "test"):
        image = rng.integers(0, 256, (800, 800, 3), dtype=np.uint8)
        mask = np.zeros((800, 800), dtype=np.bool_)
        mask[100:300, 200:500] = True
        scenes.append(Scene(image, [Referent(mask, [EXPRESSIONS[len(scenes) % 2]], "ship")], split))
    write_rrsisd(folder, scenes)


def logger(folder: Path) -> list[dict]:
    return [{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(folder)}}]


def checkpoints(folder: Path) -> list[dict]:
    """One checkpoint after every step, whatever is validated."""
    arguments = {"dirpath": str(folder), "save_last": True, "save_top_k": 0, "every_n_train_steps": 1}
    arguments["enable_version_counter"] = False
    return [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": arguments}]


def resume(command: list[str], path: Path) -> dict[str, object]:
    """Take a second step from the checkpoint that the first one left; say what it took up and what changed."""
    first = state_of(path)
    assert first["steps"] == 1, first
    subprocess.run([*command, "--trainer.max_steps", "2", "--ckpt_path", str(path)], check=True)
    second = state_of(path)
    assert second["steps"] == 2, second
    return {
        "step": second["steps"],
        "optimiser_step": second["optimiser_step"],
        "checkpoint_GB": round(path.stat().st_size / 1e9, 2),
    }


def state_of(path: Path) -> dict[str, int]:
    """Steps that a checkpoint has behind it, by the trainer's count and by the optimiser's."""
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    moments = content["optimizer_states"][0]["state"].values()
    return {"steps": content["global_step"], "optimiser_step": int(max(m["step"] for m in moments))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/rsrefseg_b.yaml")
    parser.add_argument("--folder", type=Path, default=None, help="where the files go (about 4 GB); default: temporary")
    options = parser.parse_args()
    sam = "b" if "rsrefseg_b" in options.config else "l"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "siglip" / "spiece.model").is_file():
            write_weights(folder, sam)
            write_data(folder / "data")
        command = [sys.executable, "-m", "rrsis_zoo.cli", "fit", "--config", options.config]
        command += ["--config", "configs/overlays/cpu.yaml"] if not torch.cuda.is_available() else []
        command += ["--data.root", str(folder / "data"), "--data.batch_size", "1", "--data.num_workers", "0"]
        sources = {"sam": f"local:{folder / 'sam'}", "siglip": f"local:{folder / 'siglip'}"}
        command += ["--model.init_args.weights", json.dumps(sources), "--trainer.max_epochs", "2"]
        command += ["--trainer.accumulate_grad_batches", "1", "--trainer.limit_val_batches", "0"]
        runs = folder / "runs"
        command += ["--trainer.logger", json.dumps(logger(runs)), "--trainer.callbacks", json.dumps(checkpoints(runs))]
        start = time.perf_counter()
        subprocess.run([*command, "--trainer.max_steps", "1"], check=True)
        wall = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        resumed = resume(command, runs / "last.ckpt")
        result = {
            "config": options.config,
            "wall_s": round(wall, 1),
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "peak_resident_GB": round(used.ru_maxrss / 2**20, 2),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "resumed": resumed,
        }
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
