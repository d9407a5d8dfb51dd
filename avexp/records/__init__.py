"""The data types that are stored: sessions, frames, labels, shards with their index, dataset versions."""
