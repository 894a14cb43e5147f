"""Deep and turned pictures where people meet them: as image and as mask of a dataset, in every command."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_pixels import SCENE, png, tiff

from rrsis_zoo.cli import main, run
from rrsis_zoo.data.dataset import RRSISDataset
from rrsis_zoo.data.layouts import LAYOUTS, Referent, ReferredScene
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import DataFormatError

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGES = {
    "refsegrs": "images/1.tif",
    "risbench": "img_rgb/train_0_0.png",
    "rrsis-d": "images/rrsisd/JPEGImages/00001.jpg",
}
MASKS = {"refsegrs": "masks/1.tif", "risbench": "mask/train_0_0.png"}
SIZE = (48, 32)


@pytest.fixture
def made(tmp_path):
    def write(layout):
        """A red square on black, and its mask, in portrait format."""
        writer = LAYOUTS[layout](tmp_path / layout)
        for number, split in enumerate(("train", "train", "val", "test")):
            mask = np.zeros(SIZE, bool)
            mask[4:16, 18:30] = True
            image = np.full((*SIZE, 3), number, np.uint8)
            image[mask] = (255, 0, 0)
            writer.add(ReferredScene(image, [Referent(mask, ["the red square"], "ship")], split))
        writer.close()
        return tmp_path / layout

    return write


def turn(path, orientation):
    """Store the picture as a camera does that was held otherwise: it looks the same in every viewer."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        kind, stored = image.format, image.transpose(Image.Transpose(undo[orientation]))
    stored.save(path, kind, exif=exif, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))


def iou(sample):
    pixels = sample.image.permute(1, 2, 0).numpy().astype(int)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 90)
    return (red & sample.mask.numpy()).sum() / (red | sample.mask.numpy()).sum()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("layout", IMAGES)
def test_image_and_mask_meet_whatever_the_orientation(made, layout, orientation):
    root = made(layout)
    turned = [IMAGES[layout], *([MASKS[layout]] if layout in MASKS else [])]
    for part in turned:  # first the image alone, then both
        turn(root / part, orientation)
        records = SOURCES[layout].read(root, "train", ReadOptions())
        sample = RRSISDataset(records)[0]
        assert sample.image.shape == (3, *SIZE)
        assert (records[0].height, records[0].width) == SIZE
        assert iou(sample) > 0.9
        assert RRSISDataset(records).misaligned() == []
    report = verify(layout, root, complete=False)
    assert report.passed
    (told,) = [f for f in report.findings if f.what == "files with an EXIF orientation"]
    assert told.where[0] == f"{Path(IMAGES[layout]).name} (image, {orientation})"
    assert len(told.where) == len(turned)
    assert "turned as displayed" in report.text()


def test_a_mask_for_the_stored_pixels_is_found(made):
    """Drawn by a program that passes over EXIF: it is of the other shape, which verify says."""
    root = made("refsegrs")
    with Image.open(root / "masks/1.tif") as mask:
        mask.transpose(Image.Transpose.ROTATE_90).save(root / "masks/1.tif")
    turn(root / "images/1.tif", 6)
    faults = {f.what: f.where for f in verify("refsegrs", root, complete=False).findings if f.is_fault}
    assert faults == {"masks that differ from their image in size": ["refsegrs/train/1/0"]}


DEEP = {"png": png(SCENE[..., :3]), "tiff": tiff(SCENE[..., :3]), "planar tiff": tiff(SCENE[..., :3], ">", planar=2)}


@pytest.mark.parametrize("content", DEEP)
@pytest.mark.parametrize(("layout", "part"), [*IMAGES.items(), *MASKS.items()])
def test_deep_pictures_are_refused_as_image_and_as_mask(made, capsys, layout, part, content):
    root = made(layout)
    (root / part).write_bytes(DEEP[content])
    with pytest.raises(
        DataFormatError, match=rf"{Path(part).name}: must be an image with 8 bits per channel, .* of 16 bits"
    ):
        RRSISDataset(SOURCES[layout].read(root, "train", ReadOptions()))[0]
    assert run(["data", "verify", "--dataset", layout, "--root", str(root), "--part"]) == 1
    said = capsys.readouterr().out
    assert f"1 unreadable {'image' if part == IMAGES[layout] else 'mask'}\n" in said
    assert "with 3 channels of 16 bits" in said


def test_fit_ends_in_one_line(made, tmp_path, monkeypatch, capsys):
    """By the command: a 16-bit image in a loading loop."""
    root = made("refsegrs")
    for path in (root / "images").iterdir():
        path.write_bytes(DEEP["tiff"])
    for path in (root / "masks").iterdir():
        shutil.copy(root / "masks/1.tif", path) if path.name != "1.tif" else None
    monkeypatch.chdir(tmp_path)
    configs = [CONFIGS / "control.yaml", CONFIGS / "overlays/control_tiny.yaml", CONFIGS / "overlays/refsegrs.yaml"]
    arguments = [*(f"--config={path}" for path in configs), f"--data.root={root}", "--data.batch_size=2"]
    arguments += ["--trainer.accelerator=cpu", "--data.num_workers=0", "--trainer.enable_progress_bar=false"]
    monkeypatch.setattr(sys, "argv", ["rrsis", "fit", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rrsis: ")]
    assert "tif: must be an image with 8 bits per channel, but is a TIFF with 3 channels of 16 bits" in line
