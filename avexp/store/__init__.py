"""Experiment and model store (MLflow) behind an outbox that never blocks a step, and lineage queries."""
