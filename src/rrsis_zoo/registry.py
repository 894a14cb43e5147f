"""The methods' cards by name, where programs written for earlier versions look for them; read only.

New programs use `rrsis_zoo.methods.registry`, and `rrsis_zoo.register` to add a method.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rrsis_zoo.methods.registry import methods
from rrsis_zoo.models.card import MethodCard

MODELS: Mapping[str, MethodCard] = MappingProxyType({name: known.card for name, known in methods().items()})
"""As far as they are known when this module is imported."""
