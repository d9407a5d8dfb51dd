"""From a checkpoint to a bundle of proven plans."""
