"""What all rooms share: errors, ids, units, atomic files, counter-based randomness, config, run folder. Imports nothing heavy."""
