"""Imported last by the process that commands are forked from: what is imported by then is no garbage."""

import gc

gc.collect()
gc.freeze()
