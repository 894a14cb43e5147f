"""Golden cases: what a published program computes, against what we compute."""
