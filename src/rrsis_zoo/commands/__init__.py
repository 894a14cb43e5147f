"""The commands of ``rrsis``, one module each."""
