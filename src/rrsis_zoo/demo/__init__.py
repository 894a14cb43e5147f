"""The page of `rrsis demo`: pictures and sentences in a browser, answered by a model on this machine."""
