"""The methods by what can be done with them: a test that trains has nothing to do with a training-free one."""

from rrsis_zoo.methods.registry import card, list_models

TRAINED = [name for name in list_models() if not card(name).training_free]
UNTRAINED = [name for name in list_models() if card(name).training_free]
MINIATURES = [name for name in TRAINED if "mini" in card(name).presets]
"""Those of which a trained miniature is shipped."""
