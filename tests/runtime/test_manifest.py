import json

import pytest
from toy_bundle import toy_bundle

from avexp.runtime.__main__ import main
from avexp.runtime.errors import BundleError
from avexp.runtime.loading import load
from avexp.runtime.manifest import check_files, manifest_digest


def seal(bundle, change):
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    manifest["digest"] = manifest_digest(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def bundle(tmp_path):
    return toy_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.pop("input"), "does not describe its input"),
        (lambda m: m["input"].update(shape=[1, 2]), "no input of shape"),
        (lambda m: m["input"].update(dtype="float32"), "takes float32 None frames, this runtime hands uint8 RGB"),
        (lambda m: m["input"].update(colour="BGR"), "takes uint8 BGR frames"),
        (lambda m: m.pop("outputs"), "does not describe its outputs"),
        (lambda m: m.update(plans=["x"]), "lists no plans"),
        (lambda m: m.update(plans=[]), "it has no plan at all"),
        (lambda m: m["plans"][2].pop("sha256"), "plan ort has no sha256"),
    ],
)
def test_a_manifest_that_lacks_something_is_one_line(bundle, change, text):
    seal(bundle, change)
    with pytest.raises(BundleError, match=text) as fault:
        load(bundle)
    assert "\n" not in str(fault.value)


def test_links_do_not_lead_out_of_the_bundle(bundle, tmp_path):
    (bundle / "plans").rename(tmp_path / "elsewhere")
    (bundle / "plans").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="is a link, or lies behind one"):
        load(bundle)
    link = tmp_path / "link"
    link.symlink_to(toy_bundle(tmp_path / "other"))
    assert load(link, threads=1).plan["id"] == "ort", "a link to a whole bundle is fine"


def test_all_files_can_be_checked_used_here_or_not(bundle, capsys):
    script = bundle / "plans" / "trt.sh"
    script.write_text("#!/bin/sh\n")
    seal(bundle, lambda m: m.update(files=[{"file": "plans/trt.sh", "sha256": "0" * 64, "bytes": 10}]))
    assert load(bundle, threads=1).plan["id"] == "ort"
    with pytest.raises(BundleError, match=r"trt\.sh: was changed"):
        check_files(str(bundle))
    assert main(["check", str(bundle)]) == 5
    assert "was changed" in capsys.readouterr().err
    seal(bundle, lambda m: m.update(files=[]))
    assert main(["check", str(bundle)]) == 0
    assert capsys.readouterr().out == "1 files are those of the manifest\n"


def test_the_command_needs_a_frame(capsys):
    assert main(["bundle"]) == 2
    assert "usage" in capsys.readouterr().err
