"""The names by which nnU-Net's JSON files call things, ours for them, and what reads their values with care."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from autoseg.core.errors import PlanError, did_you_mean
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
INTENSITIES_KEY = "foreground_intensity_properties_per_channel"
OLD_INTENSITIES = "foreground_intensity_properties_by_modality"
SCHEMES: dict[str, type[Any]] = {
    "CTNormalization": CTNormalization,
    "NoNormalization": NoNormalization,
    "RescaleTo01Normalization": RescaleTo01,
    "RGBTo01Normalization": RGBTo01,
    "ZScoreNormalization": ZScore,
}
Kind = Literal["plain", "residual"]
NETWORKS: dict[Kind, str] = {
    "plain": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "residual": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
DEPTHS: dict[Kind, str] = {"plain": "n_conv_per_stage", "residual": "n_blocks_per_stage"}
RESAMPLING = "resample_data_or_seg_to_shape"
MOST = 1e12  # beyond any number in such a file
NOT_UNDERSTOOD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)  # what wrong content leads to
READERS = {".png": "NaturalImage2DIO", ".bmp": "NaturalImage2DIO", ".tiff": "Tiff3DIO", ".nii": "NibabelIO"}


def fixed_network(dimensions: int) -> JSON:
    """The settings that all networks have alike."""
    return {
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def architecture_of(kind: Kind, settings: JSON) -> JSON:
    """A network as a plan has it: its class, its settings, and which of them name classes."""
    return {
        "network_class_name": NETWORKS[kind],
        "arch_kwargs": settings,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def reader_of(ending: str, *, flat: bool) -> str:
    """The class with which nnU-Net reads files of that ending, pictures (`flat`) or volumes."""
    if ending.lower() == ".tif":
        return "NaturalImage2DIO" if flat else "Tiff3DIO"
    return READERS.get(ending.lower(), "SimpleITKIO")


def intensities_of(scheme: CTNormalization) -> JSON:
    """The numbers that a CT normalization uses, by nnU-Net's names."""
    numbers = {"percentile_00_5": scheme.low, "percentile_99_5": scheme.high}
    return {**numbers, "mean": scheme.mean, "std": scheme.std}


def needed(data: Mapping[str, Any], key: str, what: str) -> Any:
    """The value of a key; `PlanError` where it is missing."""
    if not isinstance(data, Mapping):
        raise PlanError(f"{what} is {data!r}; it must be a dictionary.")
    if key not in data:
        raise PlanError(f"{what} has no {key!r}; it has {', '.join(map(repr, data)) or 'nothing'}.")
    return data[key]


def listed(data: Mapping[str, Any], key: str, what: str) -> tuple[Any, ...]:
    """A list under a key, and the lists in it, as tuples. Raises `PlanError` where there is something else."""
    value = needed(data, key, what)
    if not isinstance(value, list | tuple):
        raise PlanError(f"{what} has {key} {value!r}; it must be a list.")
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


def numbers(data: Mapping[str, Any], key: str, what: str, count: int, *, whole: bool = True) -> tuple[Any, ...]:
    """So many positive numbers under a key. Raises `PlanError` where there is something else."""
    value, kind = listed(data, key, what), int if whole else int | float
    if len(value) != count or not all(isinstance(v, kind) and not isinstance(v, bool) and 0 < v < MOST for v in value):
        raise PlanError(f"{what} has {key} {list(value)}; it must hold {count} positive {'whole ' * whole}number(s).")
    return value


def number(value: Any, what: str, *, whole: bool = True) -> Any:
    """A positive number from a file. Raises `PlanError` where there is something else."""
    if not isinstance(value, int if whole else int | float) or isinstance(value, bool) or not 0 < value < MOST:
        raise PlanError(f"{what} is {value!r}; it must be a {'whole ' * whole}number above 0.")
    return value


def truth(value: Any, what: str) -> bool:
    """True or False from a file. Raises `PlanError` where there is something else."""
    if not isinstance(value, bool):
        raise PlanError(f"{what} is {value!r}; it must be true or false.")
    return value


def check_keys(data: Mapping[str, Any], required: set[str], optional: set[str], what: str) -> None:
    """Raise `PlanError` for a key that is missing, or one that nnU-Net does not know."""
    if not isinstance(data, Mapping):
        raise PlanError(f"{what} is {data!r}; it must be a dictionary.")
    renamed = {INTENSITIES_KEY} if OLD_INTENSITIES in data else set()
    missing = sorted(required - set(data) - renamed)
    if missing:
        raise PlanError(f"{what} has no {missing[0]!r}. nnU-Net 2.8 needs {', '.join(sorted(required))}.")
    unknown = sorted(set(data) - required - optional)
    if unknown:
        hint = did_you_mean(unknown[0], required | optional).partition("Known")[0]
        raise PlanError(f"{what} has {unknown[0]!r}, which nnU-Net 2.8 does not know. {hint}".rstrip())
