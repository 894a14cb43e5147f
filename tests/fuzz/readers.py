"""Every reader of the package with a small whole file of its kind, and what must hold of an answer."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rrsis_zoo.errors import RRSISError
from rrsis_zoo.files import read_json


@dataclass(frozen=True)
class Reader:
    """A reader under attack.

    Attributes:
        name: of the test.
        file: what is mutated, in the folder that ``make`` fills.
        make: fills an empty folder with whole files, once.
        read: reads the folder; what it returns is given to ``check``.
        value: the JSON value in the file, for mutations of values; None where only bytes are mutated.
        pack: the file's bytes of a JSON value.
        check: asserts what must hold of every answer.
        allowed: what may be raised.
        share: inputs, compared with the others'.
    """

    name: str
    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    value: Callable[[bytes], Any] | None = None
    pack: Callable[[Any], bytes] | None = None
    check: Callable[[Any], None] = lambda answer: None
    allowed: tuple[type[BaseException], ...] = (RRSISError,)
    share: float = 1.0


# -- data --------------------------------------------------------------------------------------------------------------

SCENES = {"rrsisd": "rrsis-d", "refsegrs": "refsegrs", "risbench": "risbench"}


def _small_set(folder: Path, layout: str) -> None:
    from rrsis_zoo.data.synthetic.write import make_synthetic

    make_synthetic(folder / "set", scenes=3, size=64, layout=layout, processes=1)


def _read_set(folder: Path, dataset: str) -> Any:
    from rrsis_zoo.data.sources import SOURCES, ReadOptions

    answer, splits = [], SOURCES[dataset].splits
    for split in splits:
        try:
            answer += SOURCES[dataset].read(folder / "set", split, ReadOptions())
        except RRSISError:
            if split == splits[-1]:
                raise
    for record in answer[:6]:
        assert record.mask.decode().shape == (record.mask.height, record.mask.width)
        assert record.expression.strip()
        record.expression.encode()
        assert (folder / "set").resolve() in record.image_path.resolve().parents
    return answer


def _own_list(folder: Path, name: str) -> None:
    from rrsis_zoo.data.masks import encode_mask

    home = folder / "set"
    home.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 17, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(home / "a.png")
    Image.fromarray(pixels[..., 0]).save(home / "m.png")
    code = {"size": [24, 17], "counts": encode_mask(pixels[..., 0] > 99).decode()}
    masks = ["m.png", json.dumps([2, 2, 9, 2, 9, 8]), json.dumps(code), "none"]
    rows = [
        {"image": "a.png", "mask": mask, "expression": f"the {split} ship", "split": split, "category": "ship"}
        for split in ("train", "val", "test")
        for mask in masks
    ]
    if name.endswith(".csv"):
        with (home / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        rows = [{**row, "mask": json.loads(row["mask"]) if row["mask"][0] in "[{" else row["mask"]} for row in rows]
        (home / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _plain_lines(data: bytes) -> Any:
    return [json.loads(line) for line in data.splitlines()]


def _joined_lines(value: Any) -> bytes:
    return "\n".join(map(json.dumps, value if isinstance(value, list) else [value])).encode()


def _picture(kind: str, mode: str, folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 17, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / f"picture.{kind}", **({"exif": exif} if kind in ("jpg", "png", "tif") else {}))


def _read_picture(kind: str, folder: Path) -> Any:
    from rrsis_zoo.data.pixels import image_size, read_grey, read_rgb

    path = folder / f"picture.{kind}"
    size = image_size(path)
    rgb, grey = read_rgb(path), read_grey(path)
    assert rgb.shape == (*size, 3)
    assert grey.shape == size
    return rgb


def _run_lengths(folder: Path) -> None:
    from rrsis_zoo.data.masks import encode_mask

    mask = np.random.default_rng(0).random((12, 9)) > 0.6
    (folder / "rle.json").write_text(json.dumps({"counts": encode_mask(mask).decode(), "size": [12, 9]}))


def _decode_run_lengths(folder: Path) -> Any:
    from rrsis_zoo.data.masks import RunLengths

    said = read_json(folder / "rle.json")
    height, width = said["size"]
    if not (type(height) is type(width) is int and isinstance(said["counts"], str)):
        raise ValueError("the readers refuse these before")
    code = RunLengths((said["counts"].encode("latin-1"),), height, width)
    mask = code.decode()
    assert mask.shape == (height, width)
    assert code.is_empty == (not mask.any())
    return mask


def _polygon(folder: Path) -> None:
    (folder / "polygon.json").write_text(json.dumps([1, 1, 8.5, 1, 8, 7, 1, 6]))


def _decode_polygon(folder: Path) -> Any:
    from rrsis_zoo.data.masks import RunLengths, encode_polygon

    points = read_json(folder / "polygon.json")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in points):
        raise ValueError("the readers refuse these before")
    return RunLengths((encode_polygon(points, 12, 9),), 12, 9).decode()


def _manifest(folder: Path) -> None:
    from rrsis_zoo.data.verify import compare_manifest

    (folder / "a.txt").write_text("a")
    compare_manifest(folder, [folder / "a.txt"], folder / "manifest.json")


def _compare(folder: Path) -> Any:
    from rrsis_zoo.data.verify import compare_manifest

    return compare_manifest(folder, [folder / "a.txt"], folder / "manifest.json")


# -- scores ------------------------------------------------------------------------------------------------------------


def _masks() -> list[Any]:
    return [np.random.default_rng(i).random((10, 8)) > 0.5 for i in range(3)]


def _lines(folder: Path, packed: bool) -> None:
    from rrsis_zoo.data.masks import encode_mask

    text = "".join(
        json.dumps({"sample_id": f"s{i}", "expression": "a", "size": [10, 8], "counts": encode_mask(m).decode()}) + "\n"
        for i, m in enumerate(_masks())
    )
    data = text.encode()
    (folder / ("masks.jsonl.gz" if packed else "masks.jsonl")).write_bytes(gzip.compress(data) if packed else data)


def _npz(folder: Path) -> None:
    np.savez_compressed(folder / "masks.npz", **{f"pred_{i}": m for i, m in enumerate(_masks())})


def _mask_folder(folder: Path) -> None:
    (folder / "masks").mkdir()
    for i, mask in enumerate(_masks()):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{i}.png")


def _read_saved(name: str, folder: Path) -> Any:
    from rrsis_zoo.metrics.saved import open_saved

    saved = open_saved(folder / name, "pred")
    assert len(set(saved.keys)) == len(saved.keys)
    return [saved.read(key) for key in saved.keys]


def _results(folder: Path) -> None:
    from rrsis_zoo.metrics.samples import Counts, Samples, Subject, write_samples

    rows = np.array(
        [[5, 9, 7, 10, 8, 2, 4, 0, 0, 4, 4, 1, 1, 5, 5, 1], [0, 6, 3, 10, 8, 0, 4, 0, 0, 4, 4, 1, 1, 5, 5, 0]]
    )
    subjects = [Subject(f"s{i}", "scene", "the ship", "ship", "label", None) for i in range(2)]
    write_samples(folder / "samples.jsonl.gz", Samples(subjects, Counts.from_rows(rows)))


def _read_results(folder: Path) -> Any:
    from rrsis_zoo.metrics.samples import read_samples

    return read_samples(folder / "samples.jsonl.gz")


def _possible(samples: Any) -> None:
    counts = samples.counts
    assert (counts.intersection >= 0).all()
    assert (counts.intersection <= counts.predicted).all()
    assert (counts.predicted <= counts.union).all()
    assert (counts.union <= counts.height * counts.width).all()
    assert len({s.sample_id for s in samples.subjects}) == len(samples)
    assert all(isinstance(s.expression, str) for s in samples.subjects)
    if counts.details is not None:
        assert (counts.details.boundary_intersection <= counts.details.boundary_union).all()
        assert (counts.details.boundary_intersection >= 0).all()


def _unpack_lines(data: bytes) -> Any:
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def _pack_lines(value: Any) -> bytes:
    rows = value if isinstance(value, list) else [value]
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)


# -- weights -----------------------------------------------------------------------------------------------------------


def _state() -> dict[str, Any]:
    import torch

    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


def _safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(_state(), folder / "x.safetensors", metadata={"format": "pt"})


def _torch_file(folder: Path, new: bool) -> None:
    import torch

    torch.save({"state_dict": _state()}, folder / "x.pth", _use_new_zipfile_serialization=new)


def _shards(folder: Path) -> None:
    _safetensors(folder)
    index = {"metadata": {"total_size": 28}, "weight_map": dict.fromkeys(_state(), "x.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _load(name: str, folder: Path) -> Any:
    from rrsis_zoo.weights.files import read_state_dict

    state = read_state_dict(folder / name)
    return {key: tensor.clone() for key, tensor in state.items()}


def _model() -> Any:
    import rrsis_zoo

    model = rrsis_zoo.load_model("control", preset="tiny", weights="none")
    model.fit_tokenizer(["the ship left of the pier", "the red tank"])
    return model


def _model_folder(folder: Path) -> None:
    _model().save_pretrained(folder / "model")


def _open_folder(folder: Path) -> Any:
    from rrsis_zoo.loading import kind_of
    from rrsis_zoo.weights.folders import open_folder

    saved = open_folder(folder / "model")
    saved.open()
    return kind_of(saved).skeleton_of(saved)


def _checkpoint(folder: Path) -> None:
    import torch

    from rrsis_zoo.weights.checkpoints import META

    model = _model()
    said = model.description()
    tokenizer = {k: v for k, v in said["tokenizer"].items() if k != "model"}
    (folder / "tokenizer.bin").write_bytes(said["tokenizer"]["model"].numpy().tobytes())
    (folder / "meta.json").write_text(json.dumps({**said, "tokenizer": tokenizer}))
    torch.save({META: said, "state_dict": _state()}, folder / "x.ckpt")


def _open_checkpoint(folder: Path) -> Any:
    """Put the mutated description into a checkpoint, and read that."""
    import torch

    from rrsis_zoo.files import read_json
    from rrsis_zoo.loading import kind_of
    from rrsis_zoo.weights.checkpoints import META, read_checkpoint

    said = read_json(folder / "meta.json")
    if isinstance(said, dict) and isinstance(said.get("tokenizer"), dict):
        content = bytearray((folder / "tokenizer.bin").read_bytes())
        said["tokenizer"]["model"] = torch.frombuffer(content, dtype=torch.uint8)
    torch.save({META: said, "state_dict": _state()}, folder / "y.ckpt")
    saved = read_checkpoint(folder / "y.ckpt")
    return kind_of(saved).skeleton_of(saved)


def _read_checkpoint_bytes(folder: Path) -> Any:
    from rrsis_zoo.weights.checkpoints import read_checkpoint

    return read_checkpoint(folder / "x.ckpt").open()


def _pieces(folder: Path) -> None:
    from rrsis_zoo.models.tokenizers import learn

    words = ["the ship left of the pier", "the red tank", "a plane"]
    (folder / "x.spm").write_bytes(learn(words, 40, unk_id=0, bos_id=1, eos_id=2, pad_id=-1))


def _read_pieces(folder: Path) -> Any:
    from rrsis_zoo.models.tokenizers import BEiT3Tokenizer

    tokenizer = BEiT3Tokenizer.from_file(folder / "x.spm", 16)
    ids = tokenizer(["the ship", "a \u2028 \ud800 x"], "independent").ids
    assert int(ids.max(initial=0) if ids.size == 0 else ids.max()) < tokenizer.vocabulary_size
    return ids


def _tokenizer_json(folder: Path) -> None:
    from rrsis_zoo.models.tokenizers import SigLIP2Tokenizer

    words = ["the ship left of the pier", "the red tank", "a plane"]
    (folder / "tokenizer.json").write_bytes(SigLIP2Tokenizer.from_expressions(words, 60, 16).model)


def _read_tokenizer_json(folder: Path) -> Any:
    from rrsis_zoo.models.tokenizers import SigLIP2Tokenizer

    tokenizer = SigLIP2Tokenizer.from_file(folder / "tokenizer.json", 16)
    ids = tokenizer(["the ship", "a plane"], "independent").ids
    assert int(ids.max()) < max(tokenizer.vocabulary_size, 2)
    return ids


# -- suites, runs, reports ---------------------------------------------------------------------------------------------


def _runs(folder: Path) -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tables"))
    import made_runs

    made_runs.make(folder / "runs", [made_runs.Row("a", 0.6), made_runs.Row("b", 0.5, against=["a"])], seeds=(1,), n=6)
    job = next((folder / "runs").glob("a--*"))
    job.rename(folder / "runs" / "job")
    result = json.loads((folder / "runs" / "job" / "job.json").read_text())["result"]
    (folder / "test.json").write_text(json.dumps(result))
    shutil.copy(next((folder / "runs" / "job").rglob("test_samples.jsonl.gz")), folder / "test_samples.jsonl.gz")


def _read_runs(folder: Path) -> Any:
    from rrsis_zoo.tables.runs import read_runs
    from rrsis_zoo.tables.suite_tables import tables_of

    return [(t.markdown(), t.csv(), t.latex(), t.html()) for t in tables_of(read_runs(folder / "runs")).values()]


def _read_test(folder: Path) -> Any:
    from rrsis_zoo.tables.runs import read_tests
    from rrsis_zoo.tables.suite_tables import tables_of

    return [(t.markdown(), t.csv(), t.latex(), t.html()) for t in tables_of(read_tests([folder])).values()]


def _gallery(folder: Path) -> None:
    place = folder / "gallery"
    (place / "00").mkdir(parents=True)
    sample = {"sample_id": "s0", "expression": "the ship", "category": "ship", "kind": None, "iou": 0.5}
    for kind, name in {
        "image": "image.webp",
        "truth": "truth.png",
        "mask": "mask.png",
        "heatmap": "heatmap.png",
    }.items():
        Image.new("RGB" if kind == "image" else "L", (8, 8), 90).save(place / "00" / name)
        sample[kind] = f"00/{name}"
    (place / "gallery.json").write_text(json.dumps({"schema": 1, "samples": [sample]}))


def _read_gallery(folder: Path) -> Any:
    from bench.pictures import heat, outline, photograph, predicted, read_gallery, true

    samples = read_gallery(folder)
    for sample in samples:
        for name in ("image", "truth", "mask", "heatmap"):
            assert (folder / "gallery").resolve() in Path(sample[name]).resolve().parents
        photograph(sample["image"]), true(sample["truth"]), outline(sample["truth"])
        predicted(sample["mask"]), heat(sample["heatmap"])
    return samples


ROOT = Path(__file__).parents[2]


def _copied(source: str, folder: Path) -> None:
    place = folder / source
    place.parent.mkdir(parents=True)
    shutil.copy(ROOT / source, place)


def _suite(folder: Path) -> None:
    shutil.copytree(ROOT / "configs", folder / "configs")
    _copied("benchmarks/embedded.yaml", folder)


def _read_suite(folder: Path) -> Any:
    from bench.suites import read_suite

    return read_suite(folder / "benchmarks/embedded.yaml")


def _read_sweep(folder: Path) -> Any:
    from bench.sweeps import read_sweep

    return read_sweep(folder / "configs/sweeps/rsrefseg_tiny.yaml")


def _read_published(folder: Path) -> Any:
    from rrsis_zoo.tables.published import read_published

    return read_published(folder / "benchmarks/published_results.csv")


# -- all of them -------------------------------------------------------------------------------------------------------

_MASK_ERRORS = (RRSISError, ValueError, KeyError, TypeError)  # of the test's own unpacking; the codes raise ValueError
_json = {"value": json.loads, "pack": lambda value: json.dumps(value).encode()}

READERS = [
    *(
        Reader(f"picture.{kind}-{mode}", f"picture.{kind}", partial(_picture, kind, mode), partial(_read_picture, kind))
        for kind, mode in (("png", "RGB"), ("png", "P"), ("jpg", "RGB"), ("tif", "RGB"), ("webp", "RGB"), ("bmp", "L"))
    ),
    Reader("run-lengths", "rle.json", _run_lengths, _decode_run_lengths, **_json, allowed=_MASK_ERRORS),
    Reader("polygon", "polygon.json", _polygon, _decode_polygon, **_json, allowed=_MASK_ERRORS),
    Reader(
        "rrsis-d.refs", "set/rrsisd/refs(unc).p", partial(_small_set, layout="rrsis-d"),
        partial(_read_set, dataset="synthetic"), value=pickle.loads, pack=partial(pickle.dumps, protocol=2),
    ),
    Reader(
        "rrsis-d.instances", "set/rrsisd/instances.json", partial(_small_set, layout="rrsis-d"),
        partial(_read_set, dataset="synthetic"), **_json,
    ),
    Reader(
        "synthetic.sidecar", "set/synthetic.json", partial(_small_set, layout="rrsis-d"),
        partial(_read_set, dataset="synthetic"), **_json,
    ),
    Reader(
        "refsegrs.phrases", "set/output_phrase_test.txt", partial(_small_set, layout="refsegrs"),
        partial(_read_set, dataset="refsegrs"),
    ),
    Reader(
        "risbench.phrases", "set/output_phrase_test.txt", partial(_small_set, layout="risbench"),
        partial(_read_set, dataset="risbench"),
    ),
    Reader(
        "earthreason.questions", "set/test/QAs/00003_7.json", partial(_small_set, layout="earthreason"),
        partial(_read_set, dataset="earthreason"), **_json, share=0.3,
    ),
    Reader(
        "aerial-d.xml", "set/val/annotations/L3_patch_0.xml", partial(_small_set, layout="aerial-d"),
        partial(_read_set, dataset="aerial-d"), share=0.3,
    ),
    Reader(
        "risors.annotations", "set/Annotations/00003.json", partial(_small_set, layout="risors"),
        partial(_read_set, dataset="risors"), **_json, share=0.3,
    ),
    Reader(
        "risors.list", "set/RISORS_test.txt", partial(_small_set, layout="risors"),
        partial(_read_set, dataset="risors"), share=0.3,
    ),
    Reader(
        "nwpu-refer.refs", "set/new_refs(unc).p", partial(_small_set, layout="nwpu-refer"),
        partial(_read_set, dataset="nwpu-refer"), value=pickle.loads, pack=partial(pickle.dumps, protocol=2), share=0.3,
    ),
    Reader(
        "nwpu-refer.instances", "set/new_instances.json", partial(_small_set, layout="nwpu-refer"),
        partial(_read_set, dataset="nwpu-refer"), **_json, share=0.3,
    ),
    Reader(
        "rrsis-hr.instances", "set/rrsishr/instances.json", partial(_small_set, layout="rrsis-hr"),
        partial(_read_set, dataset="rrsis-hr"), **_json, share=0.3,
    ),
    Reader(
        "folder.csv", "set/list.csv", partial(_own_list, name="list.csv"), partial(_read_set, dataset="folder"),
        share=0.5,
    ),
    Reader(
        "folder.jsonl", "set/list.jsonl", partial(_own_list, name="list.jsonl"), partial(_read_set, dataset="folder"),
        value=_plain_lines, pack=_joined_lines, share=0.5,
    ),
    Reader("manifest", "manifest.json", _manifest, _compare, **_json),
    Reader("score.jsonl", "masks.jsonl", partial(_lines, packed=False), partial(_read_saved, "masks.jsonl")),
    Reader(
        "score.jsonl.gz", "masks.jsonl.gz", partial(_lines, packed=True), partial(_read_saved, "masks.jsonl.gz"),
        value=_unpack_lines, pack=_pack_lines,
    ),
    Reader("score.npz", "masks.npz", _npz, partial(_read_saved, "masks.npz")),
    Reader("score.folder", "masks/1.png", _mask_folder, partial(_read_saved, "masks")),
    Reader(
        "samples", "samples.jsonl.gz", _results, _read_results, value=_unpack_lines, pack=_pack_lines, check=_possible,
    ),
    Reader("safetensors", "x.safetensors", _safetensors, partial(_load, "x.safetensors")),
    Reader("torch-zip", "x.pth", partial(_torch_file, new=True), partial(_load, "x.pth")),
    Reader("torch-pickle", "x.pth", partial(_torch_file, new=False), partial(_load, "x.pth")),
    Reader("shards", "model.safetensors.index.json", _shards, partial(_load, "model.safetensors.index.json"), **_json),
    Reader("model.config", "model/config.json", _model_folder, _open_folder, **_json, share=0.3),
    Reader("model.weights", "model/model.safetensors", _model_folder, _open_folder, share=0.3),
    Reader("checkpoint.bytes", "x.ckpt", _checkpoint, _read_checkpoint_bytes),
    Reader("checkpoint.meta", "meta.json", _checkpoint, _open_checkpoint, **_json, share=0.3),
    Reader("sentencepiece", "x.spm", _pieces, _read_pieces),
    Reader("tokenizer.json", "tokenizer.json", _tokenizer_json, _read_tokenizer_json, **_json),
    Reader("suite.json", "runs/suite.json", _runs, _read_runs, **_json, share=0.1),
    Reader("job.json", "runs/job/job.json", _runs, _read_runs, **_json, share=0.1),
    Reader("test.json", "test.json", _runs, _read_test, **_json, share=0.1),
    Reader("gallery.json", "gallery/gallery.json", _gallery, _read_gallery, **_json),
    Reader("gallery.picture", "gallery/00/truth.png", _gallery, _read_gallery),
    Reader("suite.yaml", "benchmarks/embedded.yaml", _suite, _read_suite, share=0.1),
    Reader(
        "sweep.yaml", "configs/sweeps/rsrefseg_tiny.yaml",
        partial(_copied, "configs/sweeps/rsrefseg_tiny.yaml"), _read_sweep, share=0.1,
    ),
    Reader(
        "published.csv", "benchmarks/published_results.csv",
        partial(_copied, "benchmarks/published_results.csv"), _read_published, share=0.3,
    ),
]  # fmt: skip


def seeds(data: bytes) -> list[bytes]:
    """Return the file as it is and, of a zip, with its members packed: what is mutated there is the content."""
    if not data.startswith(b"PK"):
        return [data]
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
    return [data, out.getvalue()]
