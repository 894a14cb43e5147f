"""The shipped ledger says what it must, in words that lead somewhere; a damaged one is named."""

import re

import pytest

from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.leakage.ledger import PATH, Part, read_ledger, shipped, without_revision
from rrsis_zoo.leakage.levels import LEVELS, MEANING, WORDS
from rrsis_zoo.leakage.text import base_text, evidence_text, seen
from rrsis_zoo.methods.registry import methods

TEXT = PATH.read_text(encoding="utf-8")


def test_what_it_holds():
    ledger = shipped()
    assert len(ledger.overlaps) >= 28
    assert {"refsegrs", "rrsis-d", "risbench", "aerial-d", "earthreason", "synthetic"} <= set(ledger.datasets)
    assert ledger.origins["rrsis-d"][0].name == "DIOR"
    assert ledger.origins["rrsis-d"][0].via == "DIOR-RSVG"
    assert ledger.released["rmsin/rrsis-d"].trained_on[0].part == Part("rrsis-d", "train")
    assert ledger.published["rsrefseg 2", "refsegrs"] == "rsrefseg2/refsegrs"
    assert set(MEANING) == set(LEVELS)
    assert set(WORDS) == {"stated", "derived", "third_party", "memory", "suspected"}
    assert "28 overlaps" in repr(ledger)


def test_evidence_can_be_followed(root):
    """Addresses and files of the repository; nothing that a reader does not have."""
    addresses = 0
    for name, evidence in shipped().evidence.items():
        assert re.match(r"[A-Z0-9]|iSAID", evidence.text), name
        assert evidence.text.endswith("."), name
        assert not re.search(r"\b(same|above|overlaps)\b\.?$", evidence.text), name
        for where in evidence.see:
            if where.startswith("https://"):
                addresses += 1
            else:
                assert (root / where).is_file(), where
    assert addresses > 50
    assert not re.search(r"(?<!docs/)\b\w+\.md\b.*\d", "".join(e.text for e in shipped().evidence.values()))


def test_the_cards_are_in_it():
    """What the zoo's methods start from, and what their authors released."""
    ledger = shipped()
    for known in methods().values():
        for role, foundation in known.card.foundations.items():
            assert foundation.base in (*ledger.bases, ""), role
        for preset in known.card.presets.values():
            for role, source in preset.weights.items():
                if source == "none":  # nothing is read
                    continue
                assert ledger.named(source) or known.card.foundations[role].base in ledger.bases, source
        for release in known.card.releases:
            name = f"{known.card.name}/{release.name}"
            assert ledger.released[name].trained_on[0].part.dataset == release.dataset.casefold()
            for file in release.files:
                assert ledger.named(f"{release.source}:{file}") == name
                assert ledger.named(f"{release.source}@abc123:{file}") == name


def test_names_of_sources():
    ledger = shipped()
    assert ledger.named("hub:facebook/sam2.1-hiera-large:sam2.1_hiera_large.pt") == "sam2"
    assert ledger.named("hub:google/siglip2-so400m-patch16-512") == "siglip2"
    assert ledger.named("hub:google/siglip-so400m-patch14-384") == "siglip"
    assert ledger.named("mini:beit3") == ledger.named("mini:rsrefseg") == "miniature"
    assert ledger.named("local:weights/beit3") is None
    assert without_revision("local:a@b/c") == "local:a@b/c"
    assert base_text(ledger.bases["sam"]) == "SA-1B (aerial images: not known)"
    assert ledger.title("sam2") == "SAM 2"
    assert ledger.title("no such thing") == "no such thing"


def test_what_released_weights_have_seen():
    found = {str(f.test): f.level for f in seen(shipped(), "rsrefseg2/rrsisd")}
    assert found == {"rrsis-d train": "targets", "rrsis-d test": "selection", "risbench test": "pool"}
    text = evidence_text(seen(shipped(), "rsrefseg2/rrsisd")[1])
    assert text.startswith("RSRefSeg 2, rrsisd.pth: In RSRefSeg 2's configurations")
    assert text.endswith(" (derived).")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", "format: Input should be 1, got 2"),
        ("format = 1", "format = ", "is not TOML"),
        ('aerial = "none"', 'aerial = "some"', "aerial: Input should be 'none', 'unknown' or 'generated'"),
        ('evidence = "both-codrone"}', 'evidence = "no"}', "overlaps.lines.25: there is no evidence 'no'"),
        ('level = "boxes"', 'level = "box"', "level: Input should be 'targets', "),
        ('["rrsis-d", "test", "selection", ', '["rrsis-d", "test", "a", ', "weights rsrefseg2/rrsisd: level"),
        ('["dior", "trainval"]', '["dior", "most"]', "split 'most' is none of train, val, test, trainval, all"),
        ('bases = ["sam2", "siglip2"]', 'bases = ["sam4"]', "start from 'sam4', which is not in bases"),
        ('id = "sam2"', 'id = "sam"', "bases has 'sam' twice"),
        ('where = "nishuo1999', 'place = "nishuo1999', "Extra inputs are not permitted"),
        ("[evidence.sam-data]", '[evidence.idle]\ntext = "Nobody."\n\n[evidence.sam-data]', "at least 10 characters"),
        ('evidence = "sam-data"', 'evidence = "sam2-data"', "no line refers to sam-data"),
        ('"rsrefseg2/rrsisd"],', '"rsrefseg2/lost"],', "there are no weights 'rsrefseg2/lost'"),
        ('each = ["refsegrs", "rrsis-d"]', "", "'each' needs a list of data sets"),
    ],
)  # fmt: skip
def test_a_damaged_ledger_is_named(tmp_path, old, new, message):
    assert old in TEXT
    path = tmp_path / "ledger.toml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataFormatError, match=re.escape(message)) as caught:
        read_ledger(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_ledger(tmp_path):
    with pytest.raises(MissingDataError):
        read_ledger(tmp_path / "no.toml")
