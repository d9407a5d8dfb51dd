"""Export a trained run to a bundle of proven plans: ``python export.py run=latest``."""

try:
    from avexp.core.stage import Entry, main
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"export: this Python has no {missing.name}; run  make install  and then  . .venv/bin/activate"
    ) from None

if __name__ == "__main__":
    main(Entry("export", "avexp.export.pipeline:export"))
