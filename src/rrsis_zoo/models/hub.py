"""``save_pretrained``, ``from_pretrained`` and ``push_to_hub``: huggingface_hub's mix-in for our folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError, MissingWeightsError
from rrsis_zoo.files import expanded
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.models.configuration import to_plain
from rrsis_zoo.models.modelcard import model_card
from rrsis_zoo.models.presence import Calibration
from rrsis_zoo.version import __version__
from rrsis_zoo.weights.checkpoints import Saved
from rrsis_zoo.weights.description import FORMAT
from rrsis_zoo.weights.folders import CARD, FILES, open_folder, write_folder
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.places import no_url
from rrsis_zoo.weights.skeleton import without_weights
from rrsis_zoo.weights.training import IN_FOLDER, for_folder
from rrsis_zoo.weights.wrappers import own_names


class HubModel(
    ModelHubMixin,
    library_name="rrsis-zoo",
    pipeline_tag="image-segmentation",
    tags=["referring-segmentation", "remote-sensing"],
):
    """A model that can be saved to a folder, loaded from it and shared.

    A folder holds ``config.json``, ``model.safetensors``, the tokenizer's file and a card, ``README.md``
    (`rrsis_zoo.weights.folders`). ``push_to_hub(repo_id)`` writes one and uploads it.

    Attributes:
        provenance: origin of the weights, for the card: plain values, or None.
        training_record: of exactly these weights (`rrsis_zoo.weights.training`), or None.
    """

    card: ClassVar[MethodCard]
    name: ClassVar[str]
    config: Any
    provenance: dict[str, Any] | None = None
    training_record: dict[str, Any] | None = None

    if TYPE_CHECKING:  # members of `ReferringSegmenter`
        calibration: Calibration | None

        @property
        def tokenizer_ready(self) -> bool: ...  # noqa: D102

        def tokenizer_state(self) -> dict[str, Any]: ...  # noqa: D102

        def load_tokenizer_state(self, state: dict[str, Any]) -> None: ...  # noqa: D102

        @classmethod
        def from_description(cls, plain: Mapping[str, Any]) -> Self: ...  # noqa: D102

    # -- a model as a file ---------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """Return the description of the model for a file, see `rrsis_zoo.weights.description`."""
        return {
            "format": FORMAT,
            "version": __version__,
            "model": self.name,
            "config": to_plain(self.config),
            "tokenizer": self.tokenizer_state() if self.tokenizer_ready else None,
        }

    @classmethod
    def from_saved(cls, saved: Saved) -> Self:
        """Return a saved model in evaluation mode; memory is allocated once, or mapped from the file if it is steady.

        Raises:
            ConfigError: another method than this class, or an invalid configuration.
            WeightsMismatchError: the weights do not fit the configuration.
        """
        model = cls.skeleton_of(saved)
        fill_module(cast(nn.Module, model), saved.open, what=saved.what, share=saved.steady)
        if provenance := saved.meta.get("provenance"):
            model.provenance = {**provenance, "saved_again": True}  # it may be changed from here on
        return cast(Any, model).eval()

    @classmethod
    def skeleton_of(cls, saved: Saved) -> Self:
        """Build the model that a file describes, tokenizer included, without memory for its parameters.

        Raises:
            ConfigError: another method than this class, or an invalid configuration.
        """
        kind = _imported(cls, saved.meta["model"])
        if kind is None:
            raise ConfigError(
                f"{saved.what} holds {saved.meta['model']}, not {cls.__name__}: rrsis_zoo.load_model reads any method"
            )
        if saved.meta.get("foundations") is not None:
            raise ConfigError(
                f"{saved.what} has only what was trained: rrsis_zoo.load_model adds the foundation models"
            )
        try:
            with without_weights():
                model = kind.from_description(saved.meta["config"])
            if saved.meta["tokenizer"] is not None:
                model.load_tokenizer_state(saved.meta["tokenizer"])
        except ConfigError as error:
            raise ConfigError(f"{saved.what} cannot be built: {error}") from error
        return cast(Self, model)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = True,
        revision: str | None = None,
    ) -> Self:
        """Return the model from a folder or a repository of the Hugging Face hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder written by ``save_pretrained``, or ``ORG/REPO``.
            force_download, token, cache_dir, revision: as in huggingface_hub; only for a repository.
            local_files_only: False downloads files missing from the local cache. The default downloads nothing.

        Raises:
            MissingWeightsError: not a folder, and not in the local cache.
            WeightsMismatchError: not a folder of ours, or a damaged one.
            ConfigError: the folder holds another method than this class.
        """
        no_url(str(pretrained_model_name_or_path))
        folder, name = expanded(pretrained_model_name_or_path), str(pretrained_model_name_or_path)
        if not os.path.isdir(folder):
            try:
                folder = Path(
                    snapshot_download(
                        name,
                        revision=revision,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        local_files_only=local_files_only,
                        token=token,
                        allow_patterns=list(FILES),
                    )
                )
            except (LocalEntryNotFoundError, HFValidationError) as error:
                raise MissingWeightsError(
                    f"{name} is not a folder, and https://huggingface.co/{name} is not in the local cache; "
                    f"fetch it with: hf download {name}, or give local_files_only=False"
                ) from error
        return cls.from_saved(open_folder(folder))

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        config: Any = None,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write the model to a folder; an existing card is kept.

        Args:
            save_directory: folder to write to; it is created.
            repo_id: repository to upload to; the folder's name by default.
            push_to_hub: whether to upload it.
            config, model_card_kwargs: of huggingface_hub, not used.
            **push_to_hub_kwargs: of huggingface_hub's ``push_to_hub``.

        Returns:
            URL of the upload; None without one.

        Raises:
            OutputError: a file cannot be written; existing files are unchanged.
        """
        folder = Path(save_directory)
        card = None if os.path.exists(folder / CARD) else str(self.generate_model_card())
        state: dict[str, Tensor] = own_names(cast(nn.Module, self).state_dict(), self.name)
        description = {**self.description(), "provenance": self.provenance}
        if self.training_record is not None:
            description[IN_FOLDER] = for_folder(self.training_record)
        presence = None if self.calibration is None else self.calibration.text()
        write_folder(folder, description, state, card=card, presence=presence)
        return self.push_to_hub(repo_id or folder.name, **push_to_hub_kwargs) if push_to_hub else None

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card of this model: method, usage, licences, origin of the weights, configuration, results."""
        return ModelCard(model_card(self.card, to_plain(self.config), self.provenance, self.training_record))


def _imported(kind: type[HubModel], name: str) -> type[HubModel] | None:
    """Return the class of a method by name: the class itself or an imported subclass."""
    if getattr(kind, "name", None) == name:
        return kind
    return next((match for sub in kind.__subclasses__() if (match := _imported(sub, name))), None)
