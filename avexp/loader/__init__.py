"""Dataset version -> batches: a pure-function order, one pread a part, scaled JPEG decode into uint8."""
