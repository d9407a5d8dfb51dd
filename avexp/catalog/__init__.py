"""Dataset versions: which frames of which sessions, split how; immutable and named by their digest."""
