"""``save_pretrained``, ``from_pretrained`` and ``push_to_hub``: huggingface_hub's own mix-in over our folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from rrsis_zoo.errors import ConfigError, MissingWeightsError
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
        try:
            return super().from_pretrained(
                pretrained_model_name_or_path,
                force_download=force_download,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                revision=revision,
            )
        except (LocalEntryNotFoundError, HFValidationError) as error:
            name = pretrained_model_name_or_path
            raise MissingWeightsError(
                f"{name} is no folder, and not in the local cache: https://huggingface.co/{name}; "
                f"fetch it with: hf download {name}, or give local_files_only=False"
            ) from error

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_read_by_the_mixin: Any,
    ) -> Self:
        from rrsis_zoo.weights.folders import FILES, read_folder

        folder = Path(model_id)
        if not folder.is_dir():
            folder = Path(
                snapshot_download(
                    model_id,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                    allow_patterns=list(FILES),
                )
            )
        model = read_folder(folder)
        if not isinstance(model, cls):
            raise ConfigError(f"{model_id} holds {type(model).__name__}, not {cls.__name__}")
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        from rrsis_zoo.models.base import ReferringSegmenter
        from rrsis_zoo.weights.folders import write_model

        assert isinstance(self, ReferringSegmenter)
        write_model(self, save_directory)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card of this model: method, licences, provenance, published results, how to use it."""
        from rrsis_zoo.models.base import ReferringSegmenter
        from rrsis_zoo.weights.modelcard import model_card

        assert isinstance(self, ReferringSegmenter)
        return ModelCard(model_card(self.name, to_plain(self.config), self.provenance))
