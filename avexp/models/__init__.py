"""A configurable backbone, a neck, and one head a file: network, target encoder, loss, decode."""
