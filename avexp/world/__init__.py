"""The synthetic world: a procedural road scene with perfect labels. Scene state and rendering are apart."""
