import hashlib
import json

import pytest

from avexp.core.errors import RunError
from avexp.store.lineage import ancestors, descendants, node_of, tree_lines

TRAIN, EXPORT, AGAIN = "20261123T051500Z-aaaaaa", "20261123T061500Z-bbbbbb", "20261124T051500Z-cccccc"


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def lock(folder, stage, inputs, outputs):
    write(
        folder / "lock.json",
        {"run_id": folder.name, "stage": stage, "config_digest": "c" * 64, "inputs": inputs, "outputs": outputs},
    )


@pytest.fixture
def house(tmp_path):
    """s1, s2 -> roads@1 -> roads@2 -> train run -> checkpoint -> export run -> bundle; and a second training on roads@2."""
    root, outputs = tmp_path / "store", tmp_path / "outputs"
    for version, digest, sessions, parent in [(1, "1" * 64, ["s1"], None), (2, "2" * 64, ["s1", "s2"], "1" * 64)]:
        shards = [{"path": f"sessions/{name}/000.tar", "sha256": "e" * 64} for name in sessions]
        facts = {"name": "roads", "version": version, "digest": digest, "sessions": sessions, "parent": parent}
        write(root / "datasets" / "roads" / str(version) / "manifest.json", {**facts, "shards": shards})
    for name in ("s1", "s2"):
        write(root / "sessions" / name / "session.json", {"id": name})
    dataset = {"kind": "dataset", "name": "roads", "version": 2, "digest": "2" * 64, "path": "moved/away"}
    train, export = outputs / "train" / "exp" / TRAIN, outputs / "export" / "exp" / EXPORT
    checkpoint = train / "checkpoints" / "step-9.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    made = {"kind": "checkpoint", "digest": digest, "path": str(checkpoint)}
    lock(train, "train", [dataset], [made])
    lock(outputs / "train" / "exp" / AGAIN, "train", [dataset], [])
    bundle = export / "bundle"
    lock(export, "export", [made], [{"kind": "bundle", "name": "bundle", "digest": "b" * 64, "path": str(bundle)}])
    source = {"run": TRAIN, "checkpoint_sha256": digest, "dataset": {"name": "roads", "version": 2, "digest": "2" * 64}}
    write(bundle / "manifest.json", {"digest": "b" * 64, "source": source})
    return root, outputs, bundle, checkpoint, digest


def shape(nodes):
    return [(node.kind, node.name, *([shape(node.children)] if node.children else [])) for node in nodes]


DATASET = ("dataset", "roads@2", [("dataset", "roads@1", [("session", "s1")]), ("session", "s1"), ("session", "s2")])
CHECKPOINT = ("checkpoint", "step-9.ckpt", [("run", TRAIN, [DATASET])])


def test_a_bundle_goes_back_to_its_sessions(house):
    root, outputs, bundle, *_ = house
    assert shape(ancestors(bundle, root, outputs)) == [("run", EXPORT, [CHECKPOINT])]
    assert not [node.note for node in node_of(bundle, root, outputs).walk() if node.note]


def test_a_bundle_that_travelled_alone_finds_its_run_by_the_manifest(house, tmp_path):
    root, outputs, bundle, *_ = house
    alone = bundle.rename(tmp_path / "usb-stick")
    assert shape(ancestors(alone, root, outputs)) == [CHECKPOINT]


def test_without_the_run_the_manifest_still_names_the_dataset(house, tmp_path):
    root, _, bundle, _, digest = house
    alone = bundle.rename(tmp_path / "usb-stick")
    (found,) = ancestors(alone, root, tmp_path / "nowhere")
    assert shape([found]) == [("checkpoint", digest[:12], [("run", TRAIN, [DATASET])])]
    assert [node.note for node in found.walk()][:3] == ["missing", "missing", ""]


def test_ancestors_of_checkpoint_run_and_dataset(house):
    root, outputs, _, checkpoint, _ = house
    assert shape(ancestors(checkpoint, root, outputs)) == [("run", TRAIN, [DATASET])]
    assert shape(ancestors(checkpoint.parent.parent, root, outputs)) == [DATASET]
    assert shape(ancestors(root / "datasets" / "roads" / "1", root, outputs)) == [("session", "s1")]


def test_what_is_changed_damaged_or_gone_is_said(house):
    root, outputs, bundle, checkpoint, _ = house
    checkpoint.write_bytes(b"other weights")
    changed = hashlib.sha256(b"other weights").hexdigest()[:12]
    found = [node.note for node in node_of(bundle, root, outputs).walk() if node.kind == "checkpoint"]
    assert found == [f"digest differs, it is {changed}"]
    (root / "sessions" / "s2" / "session.json").unlink()
    (root / "datasets" / "roads" / "1" / "manifest.json").write_text("{")
    notes = {(node.kind, node.name): node.note for node in node_of(checkpoint, root, outputs).walk()}
    assert notes[("session", "s2")] == "missing"
    assert notes[("dataset", "1" * 64)] == "missing"
    (root / "datasets" / "roads" / "2" / "manifest.json").write_text("{")
    (dataset,) = ancestors(checkpoint.parent.parent, root, outputs)
    assert dataset.note.startswith("damaged: ")


def test_a_session_leads_to_all_that_was_made_of_it(house):
    root, outputs, *_ = house
    made = ("bundle", "bundle")
    trained = ("run", TRAIN, [("checkpoint", "step-9.ckpt", [("run", EXPORT, [made])])])
    second = ("dataset", "roads@2", [("run", AGAIN), trained])
    assert shape(descendants("s1", root, outputs)) == [("dataset", "roads@1", [second]), second]
    assert shape(descendants("s2", root, outputs)) == [second]


def test_descendants_by_digest_prefix_run_id_and_name(house):
    root, outputs, _, _, digest = house
    exported = ("run", EXPORT, [("bundle", "bundle")])
    assert shape(descendants(digest[:8], root, outputs)) == [exported]
    assert shape(descendants(TRAIN, root, outputs)) == [("checkpoint", "step-9.ckpt", [exported])]
    assert [node.name for node in descendants("roads@2", root, outputs)] == [AGAIN, TRAIN]
    assert descendants("c" * 64, root, outputs) == []
    assert descendants("2222", root, outputs) == []


def test_a_record_that_names_itself_does_not_loop(house):
    root, outputs, _, checkpoint, _ = house
    folder = checkpoint.parent.parent
    own = {"kind": "run", "name": TRAIN, "digest": "", "path": str(folder)}
    lock(folder, "train", [own], [])
    assert shape(ancestors(folder, root, outputs)) == [("run", TRAIN)]
    assert shape(descendants(TRAIN, root, outputs)) == [("run", TRAIN)]


def test_tree_as_text(house):
    root, outputs, _, checkpoint, _ = house
    lines = list(tree_lines(ancestors(checkpoint, root, outputs)))
    assert lines[0] == f"run {TRAIN} {'c' * 12} {checkpoint.parent.parent.resolve()}"
    assert lines[1].startswith("  dataset roads@2 222222222222 ")
    assert lines[2].startswith("    dataset roads@1 ")


def test_what_has_no_lineage_is_named(tmp_path):
    with pytest.raises(
        RunError, match="is nothing with a lineage; name a run folder, checkpoint, bundle or dataset version"
    ):
        ancestors(tmp_path, tmp_path, tmp_path)
