"""Loading released weights into a method: of its foundation models, of a complete model, the authors' checkpoints."""
