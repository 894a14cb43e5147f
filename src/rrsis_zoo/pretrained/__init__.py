"""Released weights into a method: its foundation models', a whole model's, the authors' checkpoints."""
