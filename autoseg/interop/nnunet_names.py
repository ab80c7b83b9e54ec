"""The names by which nnU-Net's JSON files call things, and ours for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoseg.core.errors import PlanError
from autoseg.data.normalization import CTNormalization, NoNormalization, RescaleTo01, RGBTo01, ZScore

JSON = dict[str, Any]
INTENSITIES = {  # nnU-Net's key: our field
    "max": "maximum",
    "mean": "mean",
    "median": "median",
    "min": "minimum",
    "percentile_00_5": "percentile_00_5",
    "percentile_99_5": "percentile_99_5",
    "std": "std",
}
SCHEMES: dict[str, type[Any]] = {
    "CTNormalization": CTNormalization,
    "NoNormalization": NoNormalization,
    "RescaleTo01Normalization": RescaleTo01,
    "RGBTo01Normalization": RGBTo01,
    "ZScoreNormalization": ZScore,
}
NETWORKS = {
    "plain": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "residual": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
DEPTHS = {"plain": "n_conv_per_stage", "residual": "n_blocks_per_stage"}
RESAMPLING = "resample_data_or_seg_to_shape"
READERS = {".png": "NaturalImage2DIO", ".bmp": "NaturalImage2DIO", ".tiff": "Tiff3DIO", ".nii": "NibabelIO"}


def needed(data: Mapping[str, Any], key: str, what: str) -> Any:
    """The value of a key; `PlanError` where it is missing."""
    if key not in data:
        raise PlanError(f"{what} has no {key!r}; it has {', '.join(map(repr, data)) or 'nothing'}.")
    return data[key]
