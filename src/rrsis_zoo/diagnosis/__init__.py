"""What a decoupled method gets wrong: *where*, *how exactly*, or the words (docs/diagnosis.md)."""
