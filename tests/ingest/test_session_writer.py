from avexp.ingest.session_writer import ingest, session_folder
from avexp.ingest.tusimple import TuSimpleReader


def test_a_session_that_has_only_its_record_gets_its_shards(lane_folder, tmp_path):
    """As one that was fetched from an object store."""
    reader = TuSimpleReader(str(lane_folder))
    sessions = ingest(reader, tmp_path)
    folder = session_folder(tmp_path, sessions[0].id)
    before = (folder / sessions[0].shards[0].file).read_bytes()
    for path in folder.iterdir():
        if path.name != "session.json":
            path.unlink()
    assert ingest(reader, tmp_path) == sessions
    assert (folder / sessions[0].shards[0].file).read_bytes() == before
