"""``avexp cache ...``."""

from pathlib import Path
from typing import Annotated

import typer

from avexp.cli.options import ROOT, AsJson, Root
from avexp.core.progress import console, say_json

app = typer.Typer(no_args_is_help=True, help="Look at the level-0 cache of this node, and make it smaller.")
CacheFolder = Annotated[Path | None, typer.Option("--cache", help="Its folder, if it is not <root>/cache.")]


@app.command("show")
def cache_show(root: Root = ROOT, cache: CacheFolder = None, as_json: AsJson = False) -> None:
    """What the cache holds, and what all processes of this node did with it."""
    from avexp.core.units import size_text
    from avexp.loader.cache import summary

    facts = summary(cache or root / "cache")
    if as_json:
        say_json(facts)
        return
    for key, value in facts.items():
        shown = size_text(value) if "bytes" in key and value is not None else value
        console.print(f"{key.removesuffix('_bytes'):<18}{shown}", markup=False, highlight=False)


@app.command("trim")
def cache_trim(
    to: Annotated[str, typer.Option(help="What may stay, such as 10GiB; the least recently used goes first.")],
    root: Root = ROOT,
    cache: CacheFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make the cache smaller, now. A running job may fill it again, up to its own limit."""
    from avexp.core.units import size_text, to_bytes
    from avexp.loader.cache import ShardCache, summary

    folder = cache or root / "cache"
    before = summary(folder)
    used = ShardCache(folder, before["limit_bytes"] or to_bytes(to)).trim(to_bytes(to))
    facts = {"folder": str(folder), "bytes_before": before["bytes"], "bytes": used}
    if as_json:
        say_json(facts)
        return
    console.print(f"{folder}: {size_text(before['bytes'])} before, {size_text(used)} now", markup=False)
