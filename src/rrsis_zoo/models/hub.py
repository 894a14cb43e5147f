"""``save_pretrained``, ``from_pretrained`` and ``push_to_hub``: huggingface_hub's own mix-in over our folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

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
        from rrsis_zoo.weights.folders import FILES, read_folder
        from rrsis_zoo.weights.sources import no_url

        no_url(str(pretrained_model_name_or_path))
        folder, name = expanded(pretrained_model_name_or_path), str(pretrained_model_name_or_path)
        if not folder.is_dir():
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
                    f"{name} is no folder, and not in the local cache: https://huggingface.co/{name}; "
                    f"fetch it with: hf download {name}, or give local_files_only=False"
                ) from error
        model = read_folder(folder)
        if not isinstance(model, cls):
            raise ConfigError(f"{name} holds {type(model).__name__}, not {cls.__name__}")
        return model

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
        """Write the model as a folder; a card that is there already is left as it is.

        Args:
            save_directory: folder to write to; it is made.
            repo_id: repository to upload to; by default named as the folder.
            push_to_hub: whether to upload it.
            config, model_card_kwargs: huggingface_hub's, not used.
            **push_to_hub_kwargs: as huggingface_hub's ``push_to_hub`` has them.

        Returns:
            Address of the upload; None without one.

        Raises:
            OutputError: a file cannot be written; what was there before is as it was.
        """
        from rrsis_zoo.models.base import ReferringSegmenter
        from rrsis_zoo.weights.folders import CARD, write_model

        assert isinstance(self, ReferringSegmenter)
        folder = Path(save_directory)
        write_model(self, folder, None if (folder / CARD).exists() else str(self.generate_model_card()))
        return self.push_to_hub(repo_id or folder.name, **push_to_hub_kwargs) if push_to_hub else None

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card of this model: method, licences, provenance, published results, how to use it."""
        from rrsis_zoo.models.base import ReferringSegmenter
        from rrsis_zoo.weights.modelcard import model_card

        assert isinstance(self, ReferringSegmenter)
        return ModelCard(model_card(self.name, to_plain(self.config), self.provenance))
