"""Export a trained run to a bundle of proven plans: ``python export.py run=latest``."""

from avexp.core.stage import Entry, main

if __name__ == "__main__":
    main(Entry("export", "avexp.export.pipeline:export"))
