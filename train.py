"""Train a network: ``python train.py +experiment=quickstart``. Any value can be changed, ``optimizer.lr=3e-4``; ``--help``
lists the groups; ``-m seed=1,2`` sweeps; ``resume=<run>`` goes on; ``+replay=<run>`` starts again from a saved config.
"""

try:
    from avexp.core.stage import Entry, main
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"train: this Python has no {missing.name}; run  make install  and then  . .venv/bin/activate"
    ) from None

if __name__ == "__main__":
    main(Entry("train", "avexp.train.fit:fit", then="avexp.evaluate.after_training:conclude"))
