"""Random variants of training images, as whole batches of tensors: mirrored, shifted, bent, with a blank square.

Randomness comes from torch's own generator, in a fixed order, so that a training repeats itself.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trec_dse.candidate import TrainingRecipe

_COARSE = 6  # points per axis at which an elastic field is drawn


def augmented(images: Tensor, recipe: TrainingRecipe) -> Tensor:
    """Normalised images (B, C, H, W), each changed at random as `recipe` asks; nothing is drawn for what is off."""
    if recipe.flip:
        images = flipped(images, torch.rand(len(images)) < 0.5)
    if recipe.shift:
        images = shifted(images, torch.randint(-recipe.shift, recipe.shift + 1, (len(images), 2)))
    if recipe.rotation or recipe.zoom or recipe.elastic:
        images = bent(images, *_random_bends(images.shape, recipe))
    if recipe.cutout:
        height, width = images.shape[2:]
        centres = torch.stack([torch.randint(0, n, (len(images),)) for n in (height, width)], dim=1)
        images = blanked(images, centres, recipe.cutout)
    return images


def flipped(images: Tensor, which: Tensor) -> Tensor:
    """The images (B, C, H, W) with those of `which` (B,), bool, mirrored left to right."""
    return torch.where(which.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


def shifted(images: Tensor, offsets: Tensor) -> Tensor:
    """Each image moved by its (down, right) pixels of `offsets` (B, 2), int64; what comes in is 0, the mean colour."""
    margin = int(offsets.abs().amax())
    height, width = images.shape[2:]
    padded = F.pad(images, (margin, margin, margin, margin)).permute(0, 2, 3, 1)
    first = (margin - offsets).to(images.device)
    rows = first[:, :1] + torch.arange(height, device=images.device)
    columns = first[:, 1:] + torch.arange(width, device=images.device)
    batch = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def bent(images: Tensor, turns: Tensor, fields: Tensor) -> Tensor:
    """Images (B, C, H, W) read, between their pixels, where `turns` and `fields` lead; outside stands the edge.

    turns: (B, 2, 2), the position of a pixel relative to the centre, as (right, down), is multiplied by them; fields:
    (B, H, W, 2), pixels to the right and downwards that are added.
    """
    size = torch.tensor(images.shape[:1:-1], dtype=images.dtype)  # width, height
    moves = torch.cat([turns, turns.new_zeros(len(turns), 2, 1)], dim=2)
    grid = F.affine_grid(moves, list(images.shape), align_corners=False) + fields * (2 / size)
    return F.grid_sample(images, grid.to(images.device), padding_mode="border", align_corners=False)


def _random_bends(shape: torch.Size, recipe: TrainingRecipe) -> tuple[Tensor, Tensor]:
    """What `bent` takes, for a batch of that shape."""
    count, _, height, width = shape
    angles = (2 * torch.rand(count) - 1) * math.radians(recipe.rotation)
    zooms = 1 + (2 * torch.rand(count, 2) - 1) * recipe.zoom
    cosines, sines = torch.cos(angles), torch.sin(angles)
    rows = [torch.stack(row, dim=1) for row in ((cosines, -sines), (sines, cosines))]
    turns = torch.stack(rows, dim=1) * zooms[:, None, :]
    coarse = torch.randn(count, 2, _COARSE, _COARSE) * recipe.elastic
    fields = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    return turns, fields


def blanked(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """The images with a square of `side` pixels around each of `centres` (B, 2), (y, x), set to 0, clipped at the edge.

    A square of even side reaches one pixel further to the left and upwards.
    """
    height, width = images.shape[2:]
    first = (centres - side // 2).to(images.device)
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows = (y >= first[:, :1]) & (y < first[:, :1] + side)
    in_columns = (x >= first[:, 1:]) & (x < first[:, 1:] + side)
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :]).unsqueeze(1), 0.0)
