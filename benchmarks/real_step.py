"""One real training step of a published configuration at full size, from files in the released layouts, and a second.

    make real-step                                        # rsrefseg_b on a CPU, made images
    make real-step ARGS="--config configs/rs2sam2.yaml"
    make real-step ARGS="--config configs/rsrefseg2.yaml --model.init_args.gradient_checkpointing true"

No weights can be downloaded in a test, so the files hold noise; names, shapes, dtypes and formats are those of the
releases that the config starts from. Everything else is the real thing: the published config through `rrsis fit`, base
weights through their sources, one step of batch 1 at 1024 px, a checkpoint at the end; then a second step by a new
process that resumes from it. Prints the times and the peak resident memory of the first process.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from rrsis_zoo.commands.fetch import model_section
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.methods.registry import card, method_at, method_named
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.pretrained.official import skeleton
from rrsis_zoo.weights.names import sam_to_transformers
from rrsis_zoo.weights.wrappers import is_lora

EXPRESSIONS = ["the ship left of the pier", "a large storage tank in the upper right corner of the image"]


def noise(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Small noise; norm scales around 1, so that a forward pass stays finite."""
    torch.manual_seed(0)
    out = {}
    for name, tensor in state.items():
        values = 0.02 * torch.randn(tensor.shape)
        out[name] = values + 1 if tensor.ndim == 1 and name.endswith("weight") else values
    return out


def unadapted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries that a foundation model had before a method added to it."""
    return {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in state.items()
        if not (is_lora(name) or ".fusion." in name or ".adapter." in name)
    }


def write_sam(model: ReferringSegmenter, path: Path) -> None:
    """SAM in transformers' form, SAM 2 in Meta's."""
    state = unadapted(model.get_submodule("sam").state_dict())
    if path.suffix == ".pt":
        torch.save({"model": noise(state)}, path)
        return
    names = sam_to_transformers(state)
    save_file(noise({names[k]: t for k, t in state.items() if not k.startswith("prompt_encoder.pe_layer")}), path)


def write_siglip(model: ReferringSegmenter, path: Path) -> None:
    """SigLIP and SigLIP 2 in transformers' form."""
    save_file(noise(unadapted(model.get_submodule("siglip").state_dict())), path)


def write_beit3(model: ReferringSegmenter, path: Path) -> None:
    """BEiT-3 in Microsoft's."""
    state = noise(dict(model.get_submodule("union").state_dict()))
    torch.save({"model": {f"beit3.{name}": tensor for name, tensor in state.items()}}, path)


def write_swin(model: ReferringSegmenter, path: Path) -> None:
    """Swin in timm's form, which merges at the start of a stage."""
    state = {}
    for name, tensor in noise(dict(model.get_submodule("backbone").state_dict())).items():
        stage = re.match(r"stages\.(\d)\.(blocks|merging)\.(.*)", name)
        if stage:
            place = f"{stage[1]}.blocks" if stage[2] == "blocks" else f"{int(stage[1]) + 1}.downsample"
            state[f"layers.{place}.{stage[3]}"] = tensor
        elif name.startswith("patch_embed."):
            state[name] = tensor
    save_file(state, path)


def write_bert(model: ReferringSegmenter, path: Path) -> None:
    """BERT as it was released: below ``bert.``, with the older names of norms."""
    state = noise(dict(model.get_submodule("text_encoder").state_dict()))
    older = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for now, then in older.items():
        state = {name.replace(now, then): tensor for name, tensor in state.items()}
    save_file({f"bert.{name}": tensor for name, tensor in state.items()}, path)


WRITERS = {"swin": write_swin, "bert": write_bert, "sam": write_sam, "siglip": write_siglip, "beit3": write_beit3}


def write_weights(folder: Path, method: str, preset: str) -> dict[str, str]:
    """Write the files of every role and return the sources."""
    model = skeleton(method_named(method).model(), preset)
    for name, role in card(method).foundations.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        WRITERS[name](model, folder / name / role.weights[0])
        if role.tokenizer:
            pieces = model.tokenizer_kind.from_expressions(EXPRESSIONS * 20, *model.text_limits)
            content = pieces.state()["model"].numpy().tobytes()
            (folder / name / role.tokenizer[0]).write_bytes(content)
    return {name: f"local:{folder / name}" for name in card(method).foundations}


def write_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = []
    for split in ("train", "val", "test"):
        image = rng.integers(0, 256, (800, 800, 3), dtype=np.uint8)
        mask = np.zeros((800, 800), dtype=np.bool_)
        mask[100:300, 200:500] = True
        scenes.append(ReferredScene(image, [Referent(mask, [EXPRESSIONS[len(scenes) % 2]], "ship")], split))
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
    parser.add_argument("--overlay", action="append", default=[], help="further configs, such as the tiny preset's")
    parser.add_argument("--folder", type=Path, help="where the files go (4 GB and more); default: temporary")
    options, more = parser.parse_known_args()  # what is left is for `rrsis fit`
    configs = [options.config, *options.overlay]
    model = model_section(Path(options.config))
    known = method_at(model["class_path"])
    assert known is not None, f"{options.config} names no method"
    method = known.name
    presets = [model_section(Path(config))["init_args"].get("preset") for config in configs]
    preset = [name for name in presets if name][-1]
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        sources = write_weights(folder, method, preset)
        write_data(folder / "data")
        command = [sys.executable, "-m", "rrsis_zoo.cli", "fit", *(a for c in configs for a in ("--config", c))]
        command += ["--config", "configs/overlays/cpu.yaml"] if not torch.cuda.is_available() else []
        command += ["--data.root", str(folder / "data"), "--data.batch_size", "1", "--data.num_workers", "0"]
        command += ["--model.init_args.weights", json.dumps(sources)]
        command += ["--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0"]
        command += ["--trainer.accumulate_grad_batches", "1"]
        command += more
        runs = folder / "runs"
        command += ["--trainer.logger", json.dumps(logger(runs)), "--trainer.callbacks", json.dumps(checkpoints(runs))]
        start = time.perf_counter()
        subprocess.run([*command, "--trainer.max_steps", "1"], check=True)
        wall = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        resumed = resume(command, runs / "last.ckpt")
        result = {
            "config": options.config,
            "preset": preset,
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
