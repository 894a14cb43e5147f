"""EviSAM3's golden cases pass; each names every recorded tensor; and they fail when the method is changed."""

import json
import shutil
import subprocess

import pytest

import warm
from golden_cases.run import check
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.evisam3 import model as method
from rrsis_zoo.models.layers import rotated

CASES = ("rotated_conv", "prompt_generator", "evidence_adapter", "expert_prompting", "losses", "tiny", "full_keys")
GRADIENTS = {"tiny": 722, "evidence_adapter": 139 + 2, "expert_prompting": 45 + 3, "rotated_conv": 14 + 1, "losses": 2}
PEAK_GB = 9  # of memory, with the whole of the published configuration


@pytest.mark.parametrize("case", CASES)
def test_case(golden, case):
    folder = golden / "evisam3" / case
    report = check(folder)
    assert report.passed, report.text()
    meta = json.loads((folder / "meta.json").read_text())
    names = [row.name for row in report.rows]
    assert set(names) >= {name for name, record in meta["tensors"].items() if record["role"] != "input"}
    assert set(names) >= set(meta.get("losses", {}))
    assert sum(row.kind == "gradient" for row in report.rows) == GRADIENTS.get(case, 0)
    if case == "full_keys":
        assert {row.name for row in report.rows if row.kind == "count"} == {"total parameters", "trainable parameters"}
        assert sum(row.kind == "name" for row in report.rows) == 3259 - 23
        assert sum(row.kind == "skipped" for row in report.rows) == 23  # 22 second names, BEiT-3's mask token


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("large")
def test_the_published_configuration(golden):
    """1.25 billion parameters at 1008 px, in a process of its own, whose memory is given back."""
    code = (
        "import json, resource, sys\n"
        "from golden_cases.run import check\n"
        "report = check(sys.argv[1]).as_dict()\n"
        "report['peak_gb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6\n"
        "json.dump(report, sys.stdout)\n"
    )
    done = subprocess.run(
        [warm.python(), "-c", code, str(golden / "evisam3" / "full")],
        capture_output=True,
        text=True,
        cwd=golden.parent / "parity",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"], [row for row in report["rows"] if not row["passed"]]
    assert {"out.logits", "trunk.block31.x_out", "moe.expert1", "total", "total parameters"} <= {
        row["name"] for row in report["rows"]
    }
    assert report["peak_gb"] < PEAK_GB


def failed(folder):
    return {row.name for row in check(folder).rows if not row.passed}


def test_turning_the_other_way_fails(golden, monkeypatch):
    turn = rotated.rotation_matrices
    monkeypatch.setattr(rotated, "rotation_matrices", lambda theta: turn(-theta))
    assert failed(golden / "evisam3" / "rotated_conv") >= {"out.arc_n1.y", "out.arc_n3.rotated_weight", "grad.x"}


def test_adapters_without_memory_fail(golden, monkeypatch):
    forward = method.EvidenceAdapter.forward
    monkeypatch.setattr(method.EvidenceAdapter, "forward", lambda self, x, s, e, hidden=None: forward(self, x, s, None))
    wrong = failed(golden / "evisam3" / "evidence_adapter")
    assert "out.a1.evidence" in wrong
    assert not any(name.startswith("out.a0.") for name in wrong)


def test_a_resize_of_the_map_fails(golden, monkeypatch):
    init = method.PromptGenerator.__init__

    def mended(self, config):
        init(self, config)
        self.layout = "map"

    monkeypatch.setattr(method.PromptGenerator, "__init__", mended)
    assert failed(golden / "evisam3" / "prompt_generator") >= {"out.resized1", "out.x_stage4_1"}


def test_an_input_gradient_that_is_wrong_is_named(golden, tmp_path):
    case = tmp_path / "losses"
    shutil.copytree(golden / "evisam3" / "losses", case)
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.clone() for name, tensor in load_file(case / "tensors.safetensors").items()}
    tensors["b3.grad_logits"][2, 0, 5, 5] *= 1.01
    save_file(tensors, case / "tensors.safetensors")
    assert failed(case) == {"b3.grad_logits"}


def test_another_setting_is_refused(golden, tmp_path):
    case = tmp_path / "tiny"
    case.mkdir()
    meta = json.loads((golden / "evisam3" / "tiny" / "meta.json").read_text())
    meta["configuration"]["experts"]["arc_res_scale"] = 0.2
    (case / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataFormatError, match=r"experts\.arc_res_scale is 0\.2, EviSAM3's is 0\.1"):
        check(case)
