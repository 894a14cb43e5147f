"""``save_pretrained``, ``from_pretrained`` and ``push_to_hub``: huggingface_hub's own mix-in over our folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from rrsis_zoo.errors import ConfigError, MissingWeightsError
from rrsis_zoo.files import expanded
from rrsis_zoo.models.configuration import to_plain

# `rrsis_zoo.weights` builds models, so it is imported where it is used: a model that is not saved needs nothing of it.


class HubModel(
    ModelHubMixin,
    library_name="rrsis-zoo",
    pipeline_tag="image-segmentation",
    tags=["referring-segmentation", "remote-sensing"],
):
    """A model that can be written to a folder, read back and shared.

    A folder holds ``config.json``, ``model.safetensors``, the tokenizer's file and a card, ``README.md``
    (`rrsis_zoo.weights.folders`). ``push_to_hub(repo_id)`` writes one and uploads it.

    Attributes:
        provenance: where the weights come from, for the card: plain values, or None.
    """

    provenance: dict[str, Any] | None = None

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
        """Return the model of a folder, or of a repository of the Hugging Face hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder that ``save_pretrained`` wrote, or ``ORG/REPO``.
            force_download, token, cache_dir, revision: as huggingface_hub has them; for a repository only.
            local_files_only: False downloads what is not in the local cache. Nothing is downloaded unasked.

        Raises:
            MissingWeightsError: not a folder, and not in the local cache.
            WeightsMismatchError: a folder of another kind, or one that is damaged.
            ConfigError: the folder holds another method than this class.
        """
        from rrsis_zoo.weights.folders import read_folder

        folder = _folder_of(
            str(pretrained_model_name_or_path),
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        model = read_folder(folder)
        if not isinstance(model, cls):
            name = pretrained_model_name_or_path
            raise ConfigError(f"{name} holds {type(model).__name__}, not {cls.__name__}")
        return model

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write this model as a folder, whole or not at all; a card that lies there already is left.

        Args:
            save_directory: the folder; it is made.
            config: not used: the model's own configuration is written.
            repo_id, push_to_hub, push_to_hub_kwargs: upload it too, as huggingface_hub has it.
            model_card_kwargs: not used.

        Returns:
            The address of the upload, if there was one.

        Raises:
            OutputError: the folder cannot be written.
        """
        from rrsis_zoo.models.base import ReferringSegmenter
        from rrsis_zoo.weights.folders import CARD, write_model

        assert isinstance(self, ReferringSegmenter)
        folder = expanded(save_directory)
        card = None if (folder / CARD).exists() else str(self.generate_model_card())
        write_model(self, folder, card)
        if push_to_hub:
            return self.push_to_hub(repo_id or folder.name, **push_to_hub_kwargs)
        return None

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card of this model: method, licences, provenance, published results, how to use it."""
        from rrsis_zoo.models.base import ReferringSegmenter
        from rrsis_zoo.weights.modelcard import model_card

        assert isinstance(self, ReferringSegmenter)
        return ModelCard(model_card(self.name, to_plain(self.config), self.provenance))


def _folder_of(name: str, local_files_only: bool, **options: Any) -> Path:
    """Return a folder, or that of a repository in the hub's cache, downloaded if that is asked for."""
    from rrsis_zoo.weights.folders import FILES
    from rrsis_zoo.weights.sources import refuse_address

    refuse_address(name)
    folder = expanded(name)
    if folder.is_dir():
        return folder
    where = f"https://huggingface.co/{name}"
    try:
        return Path(snapshot_download(name, local_files_only=local_files_only, allow_patterns=list(FILES), **options))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise MissingWeightsError(
            f"{name} is no folder, and not in the local cache: {where}; "
            f"fetch it with: hf download {name}, or give local_files_only=False"
        ) from error
    except HfHubHTTPError as error:
        raise MissingWeightsError(f"{where} cannot be fetched: {' '.join(str(error).split())}") from error
