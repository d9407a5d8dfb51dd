"""The ``avexp`` command: stages take ``key=value`` (Hydra), look-ups take ordinary arguments (typer)."""

import sys

from avexp.core.stage import Entry, main as run_stage

STAGES = {
    "train": Entry("train", "avexp.train.fit:fit", then="avexp.evaluate.after_training:conclude"),
    "export": Entry("export", "avexp.export.pipeline:export"),
    "ingest": Entry("ingest", "avexp.ingest.stage:run_ingest", (("source", "reader.source"),)),
    "evaluate": Entry("evaluate", "avexp.evaluate.stage:run_evaluate"),
    "predict": Entry("predict", "avexp.evaluate.predict:run_predict"),
    "ci": Entry("ci", "avexp.export.ci:run_ci"),
}
"""Stage verbs."""


def main() -> None:
    """Dispatch."""
    words = sys.argv[1:]
    if words and words[0] in STAGES:
        sys.argv = [f"avexp {words[0]}", *words[1:]]
        run_stage(STAGES[words[0]], words[1:])
        return
    from avexp.lookups import app

    app()


if __name__ == "__main__":
    main()
