"""The report: one file that loads nothing, whose numbers are those of the runs."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from made_runs import Row, made_profile, make
from PIL import Image

from bench import pictures
from bench.report import THRESHOLDS, precision_chart, quality_chart, reading, rows_of, write_report
from rrsis_zoo.errors import DataFormatError, OutputError
from rrsis_zoo.figures import PREDICTED, TRUE
from rrsis_zoo.metrics.samples import read_samples
from rrsis_zoo.tables.runs import read_runs
from rrsis_zoo.tables.suite_tables import tables_of

ROWS = [
    Row("constant", 0.1, "baseline", title="Best constant mask"),
    Row("good", 0.7, title="Good"),
    Row("fair", 0.5, title="Fair"),
    Row("good-shuffled", 0.2, "ablation", title="Good, shuffled"),
    Row("broken", None, title="Broken"),
]
NASTY = 'the "red" <b>ship</b> & </script>'


def gallery(job, ids, side=40, seed=0, quality=95):
    """A gallery as `rrsis_zoo.training.gallery` writes it."""
    rng = np.random.default_rng(seed)
    folder = job / "test" / "version_0" / "gallery"
    samples = []
    for i, name in enumerate(ids):
        place = folder / f"{i:02d}"
        place.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(
            place / "image.webp", quality=quality
        )
        down, across = np.mgrid[:side, :side] - rng.integers(side // 4, 3 * side // 4, (2, 1, 1))
        for kind in ("truth", "mask"):
            inside = down**2 + rng.uniform(0.5, 2) * across**2 < (side / 6) ** 2
            Image.fromarray(inside.astype(np.uint8) * 255).save(place / f"{kind}.png")
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(place / "heatmap.png")
        pictures_ = {"image": "image.webp", "truth": "truth.png", "mask": "mask.png", "heatmap": "heatmap.png"}
        files = {kind: f"{i:02d}/{file}" for kind, file in pictures_.items()}
        kind = ("position", "relation", "category")[i % 3]
        samples.append({"sample_id": name, "expression": NASTY, "category": "ship", "kind": kind, "iou": 0.5, **files})
    (folder / "gallery.json").write_text(json.dumps({"schema": 1, "samples": samples}))


def ids(job):
    return [s.sample_id for s in read_samples(job / "test" / "version_0" / "test_samples.jsonl.gz").subjects]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("runs") / "made", ROWS, n=45, profile=True)
    for name in ("good", "fair", "good-shuffled"):
        job = folder / f"{name}--synthetic--seed1"
        gallery(job, ids(job)[3:9])
    return folder


class Page(HTMLParser):
    """What a browser would load, link and show."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def html(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "results" / "report.html"
    assert write_report(runs, out) == out
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def cards(page):
    return [attributes for tag, attributes in page.tags if attributes.get("class") == "sample"]


def test_nothing_is_loaded(html, page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value[:80])
        assert tag not in ("iframe", "object", "embed", "base")
    for address in re.findall(r"url\(([^)]*)\)", html):
        assert address.startswith("data:image/")
    assert "@import" not in html
    assert not re.search(r"https?:|//[a-z]+\.", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", html))
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "Policy" in a.get("http-equiv", ""))
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_a_phone_and_the_dark_are_thought_of(html, page):
    assert any(
        a.get("name") == "viewport" and "width=device-width" in a["content"] for t, a in page.tags if t == "meta"
    )
    assert "prefers-color-scheme: dark" in html
    assert ("html", {"lang": "en"}) in page.tags
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(
        (a.get("role") == "img" and a.get("aria-label")) or a.get("aria-hidden") for t, a in page.tags if t == "svg"
    )
    assert sum(attributes.get("class") == "scroll" for _, attributes in page.tags) >= 3


def test_colours_can_be_read(html):
    """Text has a contrast of 4.5 and marks of 3 on their ground, in both schemes (WCAG 2.1)."""

    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in re.findall(r":root \{(.*?)\}", html, re.S)]
    assert len(schemes) == 2
    for colours in schemes:
        for name, ground, least in (
            *(("ink", g, 7) for g in ("ground", "raised", "warn")),
            *((n, g, 4.5) for n in ("quiet", "link") for g in ("ground", "raised")),
            *((f"c{i}", "ground", 3) for i in range(8)),
        ):
            bright, dim = sorted((light(colours[name]), light(colours[ground])), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= least, (name, ground)


def test_it_says_first_what_the_numbers_are(page):
    text = page.text
    start = text.index("What these numbers are.")
    assert start < 400
    said = text[start : text.index("Results", start)]
    assert "miniatures" in said
    assert "not a ranking of the published methods" in said
    said = text[text.rindex("How to read the numbers") : text.rindex("How it was made")]
    assert "Protocol canonical" in said
    assert "Text mode independent: each sentence is read as if it were alone" in said
    assert "not comparable" in said


def test_results_come_first(page):
    """Main table, charts of quality, the hardest samples; everything else is folded."""
    shown, folded = [], []
    depth = 0
    for tag, attributes in page.tags:
        if tag == "details" and "fold" in attributes.get("class", ""):
            depth = 1
        if name := attributes.get("id"):
            (folded if depth else shown).append(name)
    assert shown == ["table-main", "charts-synthetic", "gallery-synthetic", "more"]
    assert folded[0] == "more-synthetic"
    assert {"table-localisation", "table-kinds", "table-profile", "reading", "made"} <= set(folded)
    charts = [a["aria-label"].partition(".")[0] for t, a in page.tags if t == "svg" and "aria-label" in a]
    assert charts[:2] == ["mIoU of every method", "mIoU and parameters"]


def test_the_caption_is_there_once(html, page):
    assert page.text.count("Made-up numbers") == 1
    assert page.text.count("suite made; dataset synthetic") == 1
    notes = re.findall(r"<li>(± is the standard deviation.*?|Synthetic scenes: .*?)</li>", html)
    assert len(notes) == len(set(notes)) == 2


def test_what_nobody_has_run_is_no_table(tmp_path, html):
    """Published results are shown beside ours only."""
    assert "table-published" not in html
    rows = [Row("x", 0.5, preset="l", more={"published_split": True})]
    folder = make(tmp_path / "runs", rows, datasets=("rrsis-d",), seeds=(1,))
    assert "table-published" in write_report(folder, tmp_path / "r.html").read_text(encoding="utf-8")


def test_jobs_are_counted_as_the_runner_counts_them(tmp_path):
    """Trainings: a baseline is none; what is still to be run is named."""
    folder = make(tmp_path / "runs", ROWS)
    shutil.rmtree(folder / "fair--synthetic--seed2")
    text = Page(write_report(folder, tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert "5 of 8 finished, 2 failed, 1 not run, and 1 baseline" in text
    assert "Not run yet: Fair, synthetic, seed 2." in text


def test_the_axis_of_quality_leaves_out_what_is_far_below(runs):
    found = rows_of(read_runs(runs), "synthetic")
    chart = quality_chart(found, None)
    assert chart is not None
    assert "The axis of mIoU begins at" in chart["note"]
    outside = chart["note"].partition("Off the axis: ")[2]
    assert re.fullmatch(r"Best constant mask \d+\.\d; Good, shuffled \d+\.\d\.", outside)
    assert "Good: " in chart["svg"]
    assert "Good, shuffled" not in chart["svg"]
    main = tables_of(read_runs(runs))["main"]
    with_intervals = quality_chart(found, main)
    assert with_intervals is not None
    cell = next(row for row in main.rows if row[0].text == "Good")[[c.key for c in main.columns].index("miou")]
    assert f"Good: {cell.value:.1f} %, interval {cell.low:.1f} to {cell.high:.1f}; runs " in with_intervals["svg"]


def test_reading_follows_the_protocol():
    assert "IoU ≥ t" in reading("canonical")
    assert "scores 0" in reading("canonical")
    said = reading("rsrefseg")
    assert "IoU > t" in said
    assert "has no IoU" in said
    assert "Text mode published" in said
    assert "1008 × 1008" in reading("evisam3")
    assert "only a reference's first sentence" in reading("evisam3")


def test_links_lead_somewhere(page):
    targets = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    assert len(targets) > 5
    assert set(targets) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_failures_are_shown_with_their_reason(page):
    assert page.text[page.text.rindex("How it was made") :].count("failed : RuntimeError: out of | patience") == 2
    assert "6 of 8 finished, 2 failed" in page.text
    assert "c0ffeec0ff" in page.text


def test_curves_are_those_of_the_per_sample_files(runs):
    said = precision_chart(rows_of(read_runs(runs), "synthetic"))
    drawn = re.findall(r"<title>Good</title><path class=\"line\" d=\"M([^\"]+)\"", said["svg"])[0]
    heights = [float(pair.split()[1]) for pair in drawn.split("L")]
    shares = []
    for seed in (1, 2):
        counts = read_samples(runs / f"good--synthetic--seed{seed}/test/version_0/test_samples.jsonl.gz").counts
        iou = counts.intersection / counts.union
        shares.append([100 * np.mean(iou >= t) for t in THRESHOLDS])
    # the field: 0 % lies at 300 - 42, 100 % at 10
    assert heights == pytest.approx([258 - 2.48 * v for v in np.mean(shares, axis=0)], abs=0.06)


def test_gallery_has_the_scores_of_the_per_sample_files(runs, page):
    """Also where the gallery itself says another IoU, which is not that of the protocol."""
    shown = cards(page)
    assert len(shown) == 6
    for name in ("good", "fair", "good-shuffled"):
        job = runs / f"{name}--synthetic--seed1"
        samples = read_samples(job / "test" / "version_0" / "test_samples.jsonl.gz")
        iou = dict(zip(ids(job), samples.counts.intersection / samples.counts.union, strict=True))
        for card in shown:
            sample_id = ids(job)[3 + int(card["data-chosen"])]
            assert json.loads(card["data-iou"])[name] == pytest.approx(iou[sample_id])
    hardest = [max(json.loads(card["data-iou"]).values()) for card in shown]
    assert hardest == sorted(hardest)
    said = [a["alt"] for t, a in page.tags if t == "img" and a["alt"].startswith("Mask of Good, IoU")]
    first = json.loads(shown[0]["data-iou"])["good"]
    assert said[0] == f"Mask of Good, IoU {first:.2f}"
    assert "Mask of Broken" not in page.text
    assert {card["data-kind"] for card in shown} == {"position", "relation", "category"}
    options = [a["value"] for t, a in page.tags if t == "option" and "value" in a]
    assert {"lowest good", "lowest fair", "lowest good-shuffled"} <= set(options)


def test_sentences_cannot_break_the_page(html, page):
    assert NASTY not in html
    assert f"“{NASTY}”" in page.text
    assert html.count("</script>") == 1


def test_pictures_are_tinted(tmp_path):
    grey = np.zeros((30, 40), np.uint8)
    grey[10:20, 10:30] = 255
    grey[0, 0] = 100
    Image.fromarray(grey).save(tmp_path / "m.png")

    def shown(uri):
        import base64
        import io

        kind, _, data = uri.partition(",")
        assert kind == "data:image/png;base64"
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))

    for function, colour in ((pictures.predicted, PREDICTED), (pictures.true, TRUE)):
        picture = shown(function(tmp_path / "m.png"))
        assert (picture[15, 15, :3] == colour).all()
        assert picture[15, 15, 3] > picture[0, 0, 3] > picture[5, 5, 3] == 0
    border = shown(pictures.outline(tmp_path / "m.png"))[..., 3] > 0
    assert border.sum() == 2 * 20 + 2 * 8
    assert not border[15, 15]
    assert border[10, 10]
    heat = shown(pictures.heat(tmp_path / "m.png"))
    assert heat[15, 15, 3] == 255
    assert heat[5, 5, 3] == 0
    Image.fromarray(np.where(grey == 100, grey, 0).astype(np.uint8)).save(tmp_path / "faint.png")
    assert (shown(pictures.outline(tmp_path / "faint.png"))[..., 3] > 0).sum() == 1


def test_size_at_its_largest(tmp_path):
    """24 photographs of noise, which compresses worst, at 192 px, with the answers of eight methods."""
    rows = [Row(f"m{i}", 0.05 * i + 0.2) for i in range(8)]
    folder = make(tmp_path / "large", rows, seeds=(1,), n=75)
    for i in range(8):
        job = folder / f"m{i}--synthetic--seed1"
        if i == 0:
            gallery(job, ids(job)[:24], side=192, quality=80)
        else:
            shutil.copytree(folder / "m0--synthetic--seed1/test/version_0/gallery", job / "test/version_0/gallery")
    out = write_report(folder, tmp_path / "report.html", {})  # tables weigh little
    assert out.stat().st_size < 5e6


def test_real_data_is_not_called_a_miniature(tmp_path):
    rows = [Row("big", 0.6, preset="l"), Row("other", 0.5, preset="l")]
    folder = make(tmp_path / "real", rows, datasets=("rrsis-d", "refsegrs"), protocol="rsrefseg")
    page = Page(write_report(folder, tmp_path / "r.html").read_text(encoding="utf-8"))
    said = page.text[page.text.index("What these numbers are.") :][:600]
    assert "miniature" not in said
    assert "Every number comes from a training of this project" in page.text
    assert {"charts-rrsis-d", "charts-refsegrs"} <= set(page.ids)
    assert "Without a profile, and so not in the chart of latency: Big, Other" in page.text


def test_nothing_finished(tmp_path):
    page = Page(write_report(make(tmp_path / "none", [Row("x", None)]), tmp_path / "r.html").read_text())
    assert "No job has finished yet" in page.text
    assert "out of | patience" in page.text


def test_a_damaged_gallery_is_named(tmp_path):
    folder = make(tmp_path / "bad", [Row("x", 0.5)], seeds=(1,))
    job = folder / "x--synthetic--seed1"
    gallery(job, ids(job)[:2])
    (job / "test" / "version_0" / "gallery" / "01" / "mask.png").unlink()
    with pytest.raises(DataFormatError, match=r"mask\.png.*run the job again"):
        write_report(folder, tmp_path / "r.html")
    (job / "test" / "version_0" / "gallery" / "gallery.json").write_text("{}")
    with pytest.raises(DataFormatError, match=r"gallery\.json: samples: .*got nothing"):
        write_report(folder, tmp_path / "r.html")


def one_gallery(tmp_path):
    folder = make(tmp_path / "runs", [Row("x", 0.5)], seeds=(1,))
    job = folder / "x--synthetic--seed1"
    gallery(job, ids(job)[:2])
    return folder, job / "test" / "version_0" / "gallery"


def say(place, **said):
    """Change what the gallery says of its first sample."""
    content = json.loads((place / "gallery.json").read_text())
    content["samples"][0] |= said
    (place / "gallery.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["image", "truth", "mask", "heatmap"])
@pytest.mark.parametrize(
    "way", ["absolute", "up", "up from inside", "link", "link to a folder", "folder", "no name", "nul"]
)
def test_a_gallery_shows_no_picture_of_the_readers(tmp_path, kind, way):
    """Whatever a stranger's gallery.json says, nothing outside of its folder gets into the page."""
    folder, place = one_gallery(tmp_path)
    private = tmp_path / "private" / "photo.png"
    private.parent.mkdir()
    Image.new("RGB", (9, 9), (1, 2, 3)).save(private)
    if way == "link":
        (place / "00" / "link.png").symlink_to(private)
    if way == "link to a folder":
        (place / "out").symlink_to(private.parent)
    name = {
        "absolute": str(private), "up": "../../../../../private/photo.png", "link": "00/link.png", "nul": "a\x00b.png",
        "up from inside": "00/../../../../../../private/photo.png", "link to a folder": "out/photo.png", "folder": "00",
        "no name": "",
    }[way]  # fmt: skip
    say(place, **{kind: name})
    with pytest.raises(DataFormatError, match=r"gallery\.json names"):
        write_report(folder, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_gallery_that_is_a_link_itself_is_refused(tmp_path):
    folder, place = one_gallery(tmp_path)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataFormatError, match="which is outside its folder"):
        write_report(folder, tmp_path / "r.html")


def picture(form):
    out = io.BytesIO()
    Image.new("RGB", (9, 9)).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "is not a PNG or WEBP picture"),
        (picture("PPM"), "is not a PNG or WEBP picture"),
        (picture("GIF"), "is not a PNG or WEBP picture"),
        (picture("PNG")[:40], "is not a PNG or WEBP picture"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X", "is not a PNG or WEBP picture"),
        (b"", "is not a PNG or WEBP picture"),
        (b"\x89PNG\r\n" + b"x" * (9 * 2**20), "more than 8 MiB"),
        (picture("PNG")[:16] + b"\x00\x01\x86\xa0" * 2 + picture("PNG")[24:], "PNG"),  # 100,000 pixels a side
    ],
    ids=["EPS", "PPM", "GIF", "cut short", "no WebP", "empty", "large", "a bomb"],
)
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_gallery_has_small_pictures_of_two_kinds(tmp_path, kind, content, said):
    """An EPS file would start Ghostscript, whatever its name."""
    folder, place = one_gallery(tmp_path)
    (place / "00" / "x.png").write_bytes(content)
    say(place, **{kind: "00/x.png"})
    with pytest.raises(DataFormatError, match=said):
        write_report(folder, tmp_path / "r.html")


def test_a_large_picture_is_refused_before_it_is_read(tmp_path):
    folder, place = one_gallery(tmp_path)
    Image.new("1", (5000, 10)).save(place / "00" / "x.png")
    say(place, truth="00/x.png")
    with pytest.raises(DataFormatError, match=r"5000 × 10 pixels, at most 4096"):
        write_report(folder, tmp_path / "r.html")


EVIL = "</script></title><img src=//evil.example onerror=alert(1)>\"'`{{ 1 }} [x](javascript:alert(1))"


def test_nothing_of_others_is_markup_in_the_page(tmp_path):
    """Titles, names, captions, sentences, classes, reasons, versions: everything that a run's folder can say."""
    rows = [Row("x", 0.5, title=EVIL), Row("y", None, title=EVIL)]
    folder = make(tmp_path / "runs", rows, datasets=("d",), seeds=(1,))
    for path in folder.glob("*/job.json"):
        said = json.loads(path.read_text())
        said |= {"dataset": EVIL, "reason": EVIL, "key": EVIL}
        if said["result"]:
            gallery(path.parent, ids(path.parent)[:2])
            say(path.parent / "test/version_0/gallery", sample_id=EVIL, expression=EVIL, category=EVIL, kind=EVIL)
            said["profile"] = {**made_profile(0.5), "device": EVIL, "versions": {EVIL: EVIL}}
            said["result"] |= {"dataset": EVIL, "split": EVIL, "preset": EVIL, "model": EVIL}
            said["result"]["code"] = {"version": EVIL, "commit": EVIL, "changed": False}
        path.write_text(json.dumps(said))
    suite = json.loads((folder / "suite.json").read_text())
    suite |= {"title": EVIL, "caption": f"{EVIL} `{EVIL}` **{EVIL}**", "name": EVIL}
    suite["datasets"] = [{"name": EVIL, "title": EVIL}]
    (folder / "suite.json").write_text(json.dumps(suite))
    text = write_report(folder, tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(text)
    assert text.count("</script>") == 1
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
    assert EVIL in page.text
    assert len(page.ids) == len(set(page.ids))
    targets = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    assert set(targets) <= set(page.ids)


def test_only_the_pages_own_script_may_run(html, page):
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "Policy" in a.get("http-equiv", ""))
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "base-uri 'none'; form-action 'none'" in policy


@pytest.mark.parametrize("place", ["file/r.html", "folder"])
def test_a_report_that_cannot_be_written_is_one_error(runs, tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=place.partition("/")[0]):
        write_report(runs, tmp_path / place, {})
    assert not list(tmp_path.rglob("*.part*"))


def test_parts_and_untrained_models_are_in_no_chart(tmp_path):
    rows = [Row("x", 0.5, more={"partial": {"n": 45, "of": 99}}, title="Part"), Row("y", 0.4, title="Whole")]
    page = Page(
        write_report(make(tmp_path / "runs", rows, seeds=(1,)), tmp_path / "r.html").read_text(encoding="utf-8")
    )
    assert "left out : only 45 of 99 samples were scored" in page.text
    assert "1 of 2 finished, 1 left out" in page.text
    titles = [a.get("aria-label", "") for t, a in page.tags if t == "svg"]
    assert any("Whole" in title for title in titles)
    assert not any("Part" in title for title in titles)


@pytest.mark.usefixtures("bench_on_path")
def test_no_torch_is_needed(runs, tmp_path):
    code = (
        "import sys; from bench.report import write_report; "
        f"write_report({str(runs)!r}, {str(tmp_path / 'r.html')!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
