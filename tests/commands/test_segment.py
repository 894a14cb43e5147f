"""`rrsis segment`, with a model of random weights: what it finds is noise, but must be the same noise everywhere."""

import glob
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageShow
from pycocotools import mask as coco

import rrsis_zoo
import warm
from image_files import png, tiff
from rrsis_zoo.commands.segment import run_segment
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, MissingWeightsError, OutputError
from rrsis_zoo.outputs.drawing import COLOURS
from rrsis_zoo.version import __version__
from rrsis_zoo.weights.checkpoints import weights_hash

ROOT = Path(__file__).parents[2]
TEXTS = ["the red square", "the large storage tank"]
SENTENCES = ["--text", TEXTS[0], "--text", TEXTS[1]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    model = rrsis_zoo.load_model("control", preset="tiny", weights="none")
    model.fit_tokenizer(TEXTS * 10)
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("model") / "control"
    model.save_pretrained(place)
    return place


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save("a.png")
    Image.fromarray(picture(1)).save("b.tif")
    return tmp_path


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def segment(folder, *arguments):
    return run_segment([*map(str, arguments), "--model", str(folder)])


def files():
    return sorted(str(path) for path in Path.cwd().rglob("*") if path.is_file())


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_every_kind_says_what_segment_returns(here, folder, model, capsys):
    """The threshold is a median of probabilities, so that no mask is empty and not all are full."""
    expected = rrsis_zoo.segment(model, "a.png", TEXTS)
    threshold = float(np.median(expected.probabilities, axis=(1, 2)).min())
    expected = rrsis_zoo.segment(model, "a.png", TEXTS, threshold=threshold)
    assert expected.masks.any(axis=(1, 2)).all()
    assert not expected.masks.all()
    options = [*SENTENCES, "--threshold", threshold, "--kind", "png,json,mask", "--out", "out/"]
    assert segment(folder, "a.png", *options) == 0
    said = capsys.readouterr().out
    assert f"a.png: {TEXTS[0]}: score {expected.scores[0]:.2f}, " in said
    assert "wrote out/a.png, out/a.json, out/a.mask-1.png, out/a.mask-2.png" in said
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.json", "a.mask-1.png", "a.mask-2.png", "a.png"]
    for n, mask in enumerate(expected.masks, start=1):
        grey = np.asarray(Image.open(f"out/a.mask-{n}.png"))
        assert np.array_equal(grey.astype(bool), mask)
    record = json.loads(Path("out/a.json").read_text(encoding="utf-8"))
    assert (record["model"], record["source"], record["version"]) == ("control", str(folder), __version__)
    assert record["weights_sha256"] == weights_hash(model)
    assert (record["height"], record["width"], record["threshold"], record["stretch"]) == (70, 90, threshold, None)
    for answer, text, mask, score in zip(record["answers"], TEXTS, expected.masks, expected.scores, strict=True):
        assert answer["text"] == text
        assert np.array_equal(coco.decode(answer["segmentation"]), mask)
        assert answer["score"] == pytest.approx(score)
        assert answer["area_px"] == mask.sum()
    drawn = np.asarray(Image.open("out/a.png").convert("RGB"))
    assert np.array_equal(drawn, np.asarray(_drawing(expected, folder)))


def _drawing(expected, folder):
    """The one of `Segmentation.picture`, with the command's line about the model."""
    from rrsis_zoo.outputs.drawing import Drawn, drawing

    drawn = [
        Drawn(text, mask, float(score), float(mask.mean()))
        for text, mask, score in zip(expected.texts, expected.masks, expected.scores, strict=True)
    ]
    return drawing(expected.image, drawn, f"control ({folder}), rrsis-zoo {__version__}")


def test_prompts_are_drawn_and_recorded_on_request(here, tmp_path, capsys):
    """By a method that writes boxes: those of the colour that stands out."""
    saved = tmp_path / "think2seg"
    rrsis_zoo.load_model("think2seg", preset="tiny", weights="none").save_pretrained(saved)
    pixels = np.full((70, 90, 3), 100, np.uint8)
    pixels[20:50, 30:75] = (250, 20, 20)
    Image.fromarray(pixels).save("a.png")
    for name, options in (("with", ["--prompts"]), ("without", [])):
        assert segment(saved, "a.png", *SENTENCES, *options, "--kind", "png,json", "--out", f"{name}/") == 0
    capsys.readouterr()
    records = {name: json.loads(Path(f"{name}/a.json").read_text()) for name in ("with", "without")}
    for said, answer in zip(records["with"]["answers"], records["without"]["answers"], strict=True):
        prompts = said.pop("prompts")
        assert said == answer  # nothing else differs
        (box,) = prompts["boxes"]
        assert np.abs(np.array(box) - [30, 20, 75, 50]).max() < 2
        assert len(prompts["points"]) == 2
        assert all(30 <= x <= 75 and 20 <= y <= 50 for x, y in prompts["points"])
    drawn = {name: np.asarray(Image.open(f"{name}/a.png").convert("RGB")) for name in ("with", "without")}
    changed = (drawn["with"] != drawn["without"]).any(-1)
    result = rrsis_zoo.segment(rrsis_zoo.load_model(saved), "a.png", TEXTS)
    rows, columns = np.nonzero(changed)
    scale = drawn["with"].shape[1] / 90
    assert np.abs(np.array([columns.min(), rows.min(), columns.max(), rows.max()]) / scale - [30, 20, 75, 50]).max() < 2
    own = np.asarray(result.picture(prompts=True))
    assert np.array_equal(own[: int(70 * scale)], drawn["with"][: int(70 * scale)])
    assert (np.asarray(result.figure()) == 255).all(-1).sum() > 0


def test_prompts_that_cannot_be_drawn_are_refused(here, folder):
    with pytest.raises(ConfigError, match="--prompts: control writes no boxes or points"):
        segment(folder, "a.png", *SENTENCES, "--prompts", "--out", "out.png")
    with pytest.raises(ConfigError, match="--prompts is for pictures: every window of a map"):
        segment(folder, "a.png", *SENTENCES, "--prompts", "--window", "64", "--out", "out.png")
    assert not Path("out.png").exists()


def test_json_lines(here, folder, capsys):
    """One line an input, and files too if there is an --out."""
    assert segment(folder, "a.png", "b.tif", *SENTENCES, "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["input"] for line in lines] == ["a.png", "b.tif"]
    assert segment(folder, "a.png", *SENTENCES, "--json", "--out", "a.json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("a.json").read_text()) == json.loads(lines[0])


def test_what_is_not_there(here, root, capsys):
    """The package's example: a miniature with its calibration, and a sentence about nothing in the picture."""
    words = [str(root / "examples" / "harbour.png"), "--text", "the helipad", "--text", "the windmill"]
    words += ["--model", "mini:rsrefseg2", "--json"]
    assert run_segment(words) == 0
    there, not_there = json.loads(capsys.readouterr().out)["answers"]
    needed = rrsis_zoo.load_model("mini:rsrefseg2").calibration.threshold
    assert there["presence"] >= needed == there["presence_needed"] > not_there["presence"]
    assert (there["absent"], not_there["absent"], not_there["area_px"]) == (False, True, 0)
    assert there["area_px"] > 1000
    assert run_segment([*words, "--presence", "off"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert answers[0] == {**there, "presence_needed": None}
    assert (answers[1]["absent"], answers[1]["presence_needed"]) == (False, None)
    assert run_segment([*words[:-1], "--presence", "0.99", "--out", "out.png"]) == 0
    assert "the helipad: probably not there: presence 0.8" in capsys.readouterr().out
    for wrong in ("often", "1.1", "nan"):
        with pytest.raises(ConfigError, match=r"--presence must be a number from 0 to 1, or off"):
            run_segment([*words, "--presence", wrong])


def test_one_file_and_its_ending(here, folder):
    assert segment(folder, "a.png", *SENTENCES[:2], "--out", "x/mask.png", "--kind", "mask") == 0
    mask = Image.open("x/mask.png")
    assert (mask.size, mask.mode) == ((90, 70), "1")
    assert segment(folder, "a.png", *SENTENCES[:2], "--out", "x/drawn.png") == 0
    assert Image.open("x/drawn.png").width == 8 * 90
    assert len(files()) == 4


def test_the_image_is_encoded_once_and_the_model_loaded_once(here, folder, monkeypatch, capsys):
    from rrsis_zoo import loading
    from rrsis_zoo.methods.control.model import Control

    encoded, loaded = [], []
    encode, load = Control.encode, loading.load_model
    monkeypatch.setattr(Control, "encode", lambda self, *a: (encoded.append(1), encode(self, *a))[1])
    monkeypatch.setattr(loading, "load_model", lambda *a, **k: (loaded.append(1), load(*a, **k))[1])
    assert segment(folder, "a.png", "b.tif", *SENTENCES, *SENTENCES, "--json") == 0
    assert (len(encoded), len(loaded)) == (2, 1)


def test_sentences_from_a_file(here, folder, capsys):
    Path("texts").write_text("\ufeffthe red square\r\n\n  the ship, 船  \n", encoding="utf-8")
    assert segment(folder, "a.png", "--text", "first", "--text-file", "texts", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert [answer["text"] for answer in record["answers"]] == ["first", "the red square", "the ship, 船"]


def test_a_stretch_is_said_and_kept(here, folder, capsys):
    deep = (np.random.default_rng(0).random((30, 40, 3)) * 3000).astype(np.uint16)
    Path("deep.png").write_bytes(png(deep))
    assert segment(folder, "deep.png", *SENTENCES, "--json", "--stretch", "0:3000") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["stretch"] == [[0, 3000]] * 3
    assert (
        said.err
        == "rrsis segment: deep.png: values 0-3000, 0-3000, 0-3000 are shown as 0-255; --stretch changes that\n"
    )


def test_a_method_with_weights(here, folder, capsys):
    options = ["a.png", *SENTENCES, "--json", "--model", "control", "--weights", f"local:{folder}"]
    assert run_segment(options) == 0
    by_name = json.loads(capsys.readouterr().out)
    assert segment(folder, "a.png", *SENTENCES, "--json") == 0
    by_path = json.loads(capsys.readouterr().out)
    assert by_name.pop("source") == f"control, local:{folder}"
    assert by_path.pop("source") == str(folder)
    assert by_name == by_path


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (["a.png", "--out", "o.png"], ConfigError, "no sentence: give --text"),
        (["a.png", "--text", " ", "--out", "o.png"], ConfigError, "--text is empty"),
        (["a.png", "--text-file", "gone", "--out", "o.png"], MissingDataError, "there is no file gone"),
        (["a.png", *SENTENCES], ConfigError, "--out is missing"),
        (["a.png", *SENTENCES, "--json", "--kind", "json"], ConfigError, "--out is missing"),
        (["a.png", *SENTENCES, "--out", "o.png", "--kind", "pgn"], ConfigError, "did you mean 'png'"),
        (
            ["a.png", *SENTENCES, "--out", "o.png", "--threshold", "1"],
            ConfigError,
            "--threshold must be between 0 and 1",
        ),
        (["a.png", *SENTENCES, "--out", "o.png", "--stretch", "9"], ConfigError, "--stretch '9' is none of"),
        (["a.png", "gone.png", *SENTENCES, "--out", "o/"], MissingDataError, r"there is no file gone\.png"),
        (["a.png", ".", *SENTENCES, "--out", "o/"], DataFormatError, "is a folder; a file was expected"),
        (["a.png", "b.tif", *SENTENCES, "--out", "o.png"], ConfigError, "2 inputs need a folder"),
        (["a.png", *SENTENCES, "--out", "b.bmp"], ConfigError, r"must end in one of"),
        (["a.png", *SENTENCES, "--out", "a.png"], ConfigError, r"a\.png would replace the input"),
        (["a.png", *SENTENCES, "--out", "o.png", "--device", "abacus"], ConfigError, "--device cpu always can"),
        (["a.png", *SENTENCES, "--out", "o.png", "--preset", "tiny"], ConfigError, "leave out both"),
    ],
)
def test_errors_before_any_work(here, folder, options, error, said):
    before = files()
    with pytest.raises(error, match=said):
        segment(folder, *options)
    assert files() == before


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        (["control"], ConfigError, "control is a method without weights.*add --weights"),
        (["control", "--weights", "none"], ConfigError, "masks would be noise"),
        (["control", "--weights", "local:gone"], MissingWeightsError, "gone"),
        (["gone.ckpt"], MissingWeightsError, r"there is no checkpoint gone\.ckpt"),
        (["controll"], ConfigError, "did you mean 'control'"),
    ],
)
def test_a_model_that_cannot_be_loaded(here, model, error, said):
    with pytest.raises(error, match=said):
        run_segment(["a.png", *SENTENCES, "--out", "o.png", "--model", *model])


def test_nothing_is_overwritten_unless_that_is_said(here, folder, capsys):
    Path("o.png").write_text("mine")
    with pytest.raises(ConfigError, match=r"o\.png exists: --overwrite replaces it"):
        segment(folder, "a.png", *SENTENCES, "--out", "o.png")
    assert Path("o.png").read_text() == "mine"
    assert segment(folder, "a.png", *SENTENCES, "--out", "o.png", "--overwrite") == 0
    assert Image.open("o.png").format == "PNG"


def test_a_damaged_input_is_named_and_the_others_go_on(here, folder, capsys):
    Path("cut.png").write_bytes(Path("a.png").read_bytes()[:900])
    assert segment(folder, "a.png", "cut.png", "b.tif", *SENTENCES, "--out", "out/") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("rrsis segment: cut.png: cannot be read as an image")
    assert said[1] == "rrsis segment: 1 of 3 inputs could not be segmented"
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png"]
    with pytest.raises(DataFormatError, match=r"cut\.png: cannot be read"):
        segment(folder, "cut.png", *SENTENCES, "--out", "o.png")


def test_a_full_disk_leaves_no_half_file(here, folder, limited_files):
    before = files()
    with limited_files(200), pytest.raises(OutputError, match=r"o\.png cannot be written \(File too large\)"):
        segment(folder, "a.png", *SENTENCES, "--out", "o.png")
    assert files() == before


def test_too_little_memory_is_the_inputs_fault(here, folder, monkeypatch):
    def greedy(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("rrsis_zoo.inference.answers", greedy)
    with pytest.raises(DataFormatError, match="70 x 90 pixels are too many for this machine's memory"):
        segment(folder, "a.png", *SENTENCES, "--out", "o.png")
    monkeypatch.setattr("rrsis_zoo.inference.answers", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        segment(folder, "a.png", *SENTENCES, "--out", "o.png")


def test_sentences_that_are_cut_are_named(here, folder, capsys):
    assert segment(folder, "a.png", "--text", "red " * 300, "--json") == 0
    assert "cut off" in capsys.readouterr().err


# -- the command at a shell --------------------------------------------------------------------------------------------


def test_the_command(here, folder):
    done = warm.command(["segment", "a.png", *SENTENCES, "--model", folder, "--out", "o.png"], here)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "wrote o.png"
    again = warm.command(["segment", "a.png", *SENTENCES, "--model", folder, "--out", "o.png"], here)
    assert again.returncode == 2
    assert again.stderr == "rrsis: o.png exists: --overwrite replaces it, or give another --out\n"


def test_colours_are_in_the_drawing(here, folder):
    """A mask of everything has its outline along the edge of the picture."""
    assert segment(folder, "a.png", *SENTENCES[:2], "--threshold", "1e-9", "--out", "o.png") == 0
    drawn = np.asarray(Image.open("o.png").convert("RGB"))[: 8 * 70]
    assert (drawn[0] == COLOURS[0]).all()
    assert (drawn[:, -1] == COLOURS[0]).all()


# -- the page of the docs ----------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "start" / "segment.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def reader(here, monkeypatch):
    """A folder with everything that the page names, and no viewer for pictures."""
    (here / "examples").symlink_to(ROOT / "examples")
    (here / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.jpg"):
        Image.fromarray(picture()).save(name)
    Path("scene.tif").write_bytes(tiff((np.random.default_rng(0).random((30, 40, 3)) * 3000).astype(np.uint16)))
    Path("sentences.txt").write_text("the ship\nthe pier\n")
    return here


@pytest.mark.parametrize("block", blocks("sh"))
def test_commands_of_the_page(reader, folder, block):
    words = shlex.split(block.replace("\\\n", " "))
    assert words[:2] == ["rrsis", "segment"]
    words[words.index("--model") + 1] = str(folder)
    if "--weights" in words:
        del words[words.index("--weights") : words.index("--weights") + 2]
    words = [name for word in words[2:] for name in (sorted(glob.glob(word)) if "*" in word else [word])]
    assert run_segment(words) == 0
    out = words[words.index("--out") + 1]
    expected = ["one", "two"] if out == "found/" else []
    assert [Path(f"found/{name}.mask-2.png").is_file() for name in expected] == [True] * len(expected)
    assert Path(out).exists()


def test_python_of_the_page(reader, model, monkeypatch):
    (code,) = blocks("python")
    shown = []
    monkeypatch.setattr(ImageShow, "show", lambda image, title: not shown.append(image))
    space = {"rrsis_zoo": rrsis_zoo, "model": model}
    exec(compile(code, "segment.md", "exec"), space)
    assert space["result"].masks.shape == (2, 70, 90)
    assert Image.open("figure.png").size == shown[0].size
    assert Image.open("picture.png").width == 8 * 90


def test_compiled_if_asked(here, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(rrsis_zoo.models.base.ReferringSegmenter, "use_compile", lambda self, how: asked.append(how))
    assert segment(folder, "a.png", *SENTENCES, "--out", "plain.png") == 0
    assert segment(folder, "a.png", *SENTENCES, "--out", "out.png", "--compile", "reduce-overhead") == 0
    assert asked == ["reduce-overhead"]
    with pytest.raises(ConfigError, match="unknown compile 'fast'"):
        segment(folder, "a.png", *SENTENCES, "--out", "other.png", "--compile", "fast")
