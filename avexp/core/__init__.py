"""What all rooms share: errors, ids, units, atomic files, counter-based randomness, config, runs. Imports stay light."""
