"""The commands on the cache and the object store, as a user types them."""

import json

import pytest
from typer.testing import CliRunner

from avexp.cli import app
from avexp.core.config import Storage
from avexp.core.errors import ConfigError, DataError
from avexp.loader.remote import RemoteStore
from avexp.loader.replicate import open_version
from avexp.loader.tiers import open_tiers


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_push_show_and_trim(lane_dataset, tmp_path, capfd, monkeypatch):
    from avexp.core.progress import console

    url = f"file://{tmp_path}/far"
    with console.capture() as said:
        run("dataset", "push", "lanes@1", url, "--root", lane_dataset.root)
    assert f"lanes@1 is at {url}: 8 objects written" in said.get()
    assert f"data.name=lanes@1 storage.remote={url}" in said.get()
    tiers = open_tiers(tmp_path / "root", url, cache_gib=1.0)
    dataset = open_version(tmp_path / "root", "lanes@1", tiers)
    assert all(dataset.read(row, "image") for row in range(len(dataset.rows)))
    tiers.close()
    with console.capture() as said:
        run("cache", "show", "--root", tmp_path / "root")
    assert "entries           2\n" in said.get()
    assert "limit             1.0 GiB\n" in said.get()
    with console.capture() as said:
        run("cache", "trim", "--to", "1KiB", "--cache", tmp_path / "root/cache")
    assert said.get().endswith("0 B now\n")


def test_json_is_json(tmp_path, monkeypatch, lane_dataset):
    printed = []
    for module in ("cache", "dataset"):
        monkeypatch.setattr(f"avexp.cli.{module}.say_json", printed.append)
    url = f"file://{tmp_path}/far"
    run("dataset", "push", "lanes@1", url, "--root", lane_dataset.root, "--json")
    open_tiers(tmp_path, url, cache_gib=1.0).close()
    run("cache", "show", "--root", tmp_path, "--json")
    run("cache", "trim", "--to", "0", "--root", tmp_path, "--json")
    assert [json.loads(json.dumps(value)) for value in printed] == printed
    assert printed[0]["written"] == 8
    assert printed[1]["limit_bytes"] == 2**30
    assert printed[2]["bytes"] == 0


def test_mistakes_are_one_line(tmp_path):
    runner = CliRunner()
    found = [
        runner.invoke(app, ["cache", "show", "--root", str(tmp_path)]).exception,
        runner.invoke(app, ["cache", "trim", "--to", "much", "--root", str(tmp_path)]).exception,
        runner.invoke(app, ["dataset", "push", "lanes@1", "s3:/bucket", "--root", str(tmp_path)]).exception,
    ]
    assert "no cache is there" in str(found[0])
    assert isinstance(found[1], DataError)
    assert "is no object store" in str(found[2])


@pytest.mark.parametrize("url", ["s3://b", "s3://b/p/q", "gs://b/p", "az://account/c", "file:///x"])
def test_good_urls(url):
    assert Storage(remote=url).remote == RemoteStore(url).url == url


@pytest.mark.parametrize("url", ["b/p", "s3:/b", "s3://", "http://b", "file://x"])
def test_a_wrong_url_is_a_fault_of_the_config(url):
    with pytest.raises(ConfigError, match=r"^storage.remote: "):
        Storage(remote=url)
