"""What is in the picture? Vision tower and projector, for whole pictures and for crops."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from qzoom.contracts.stages import Proposal
from qzoom.model.backbones import VisionTower, vision_tower
from qzoom.model.images import Patches, Pixels, Preprocessor, open_preprocessor
from qzoom.model.loading import Checkpoint
from qzoom.model.parameters import assign_tensors
from qzoom.model.state import VisualTokens


@dataclass(frozen=True, slots=True)
class VisionInput:
    """One picture or crop, ready for the vision tower.

    Attributes:
        patches: Its pixels and grid.
        kept: Row-major indices of the tokens that are used; None uses all.
    """

    patches: Patches
    kept: tuple[int, ...] | None = None

    @property
    def num_tokens(self) -> int:
        """Visual tokens that come out."""
        height, width = self.patches.grid
        return height * width if self.kept is None else len(self.kept)


class VisionEncoder(nn.Module):
    """Pictures to visual tokens.

    Args:
        tower: Of the checkpoint's family.
        preprocessor: Of the checkpoint.
        device: Where to run.
        dtype: Of the tower.
    """

    def __init__(
        self,
        tower: VisionTower,
        preprocessor: Preprocessor,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        assert isinstance(tower, nn.Module)
        self.tower = tower
        self._encode = tower.encode
        self._preprocessor, self._device, self._dtype = preprocessor, device, dtype

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Read this stage's tensors, and no others.

        Raises:
            ValueError: If the checkpoint does not fit its own configuration.
        """
        device = torch.device(device)
        tower = vision_tower(checkpoint.family, checkpoint.hf_config)
        tensors = {
            own + name.removeprefix(stored): tensor
            for stored, own in tower.prefixes.items()
            for name, tensor in checkpoint.tensors([stored]).items()
        }
        stage = cls(tower, open_preprocessor(checkpoint), device=device, dtype=dtype)
        assign_tensors(stage.tower, tensors, "", device=device, dtype=dtype)
        # Moves the buffers, which are not part of a checkpoint.
        stage.tower.to(device)
        return stage

    def prepare_coarse(self, image: Pixels, max_tokens: int | None = None) -> VisionInput:
        """Resize and patch a whole picture, on the CPU.

        Raises:
            InvalidRequest: If the picture's shape or the budget is not acceptable.
        """
        return VisionInput(self._preprocessor.coarse(image, max_tokens))

    def prepare_roi(
        self, image: Pixels, proposal: Proposal, max_tokens: int | None = None
    ) -> VisionInput:
        """Crop, resize and patch a region of the source picture, on the CPU.

        Raises:
            InvalidRequest: If the crop's shape or the budget is not acceptable.
        """
        patches = self._preprocessor.roi(image, proposal.box_px, max_tokens)
        return VisionInput(patches, proposal.kept)

    @torch.inference_mode()
    def encode(self, inputs: Sequence[VisionInput]) -> list[VisualTokens]:
        """Encode pictures and crops of any sizes in one pass."""
        pixels = [
            torch.from_numpy(item.patches.pixel_values).to(self._device, self._dtype)
            for item in inputs
        ]
        encoded = self._encode(pixels, [item.patches.grid for item in inputs])
        return [
            VisualTokens(item.patches.grid, _keep(features, item.kept))
            for item, features in zip(inputs, encoded, strict=True)
        ]


def _keep(features: Tensor, kept: tuple[int, ...] | None) -> Tensor:
    return features if kept is None else features[:, list(kept)]
