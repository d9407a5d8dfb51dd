"""KPIs of a run, checkpoint or bundle on any dataset version and slice; predictions on video."""
