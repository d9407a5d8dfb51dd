"""Sweeps, trials and map jobs: what was asked for (ledger), where it runs (local, slurm), how it stands (controller)."""
