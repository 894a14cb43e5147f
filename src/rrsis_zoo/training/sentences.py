"""Sentences that are longer than what a method reads: said once a split, with their number."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities import rank_zero_warn


def tell_of_cut_sentences(module: Any, told: frozenset[str]) -> frozenset[str]:
    """Warn of every split in use that has longer sentences.

    Args:
        module: an `RRSISModule` in a trainer, its tokenizer ready; without our data module nothing is looked at.
        told: splits of which it was said before.

    Returns:
        The splits of which it was said by now.
    """
    data = getattr(module.trainer, "datamodule", None)
    if data is None:  # the user's own loaders
        return told
    splits = {
        "fit": ("train", data.fit_eval_split),
        "validate": (data.fit_eval_split,),
        "test": (data.test_split,),
        "predict": (data.predict_split,),
    }[module.trainer.state.fn.value]
    for split in sorted(set(splits) - told):
        if cut := module.model.cut([record.expression for record in data.records(split)], f" of split {split!r}"):
            rank_zero_warn(cut)
    return told | set(splits)
