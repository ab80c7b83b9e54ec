"""Volumes in 3D: NiiVue in the page, itkwidgets where it can work, and a picture of the labels' surfaces everywhere."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets as widgets
import numpy as np

from autoseg.core.errors import DisplayError
from autoseg.core.shown import Shown
from autoseg.core.types import LabelArray
from autoseg.data.dataset import Case
from autoseg.data.exchange import to_nibabel, to_sitk
from autoseg.data.geometry import Grid
from autoseg.data.labels import Labels
from autoseg.display import render
from autoseg.display.colours import colour_of, legend
from autoseg.display.html import Html, card, gallery, tag, text
from autoseg.display.raster import rgb
from autoseg.display.slices import layers_of, window_of
from autoseg.display.surfaces import Span, span_of, surface_png
from autoseg.display.viewers import Layers, layers_of_case, layers_of_prediction
from autoseg.display.widgets import WIDE, Interactive, row, words
from autoseg.display.words import times
from autoseg.prediction.inference import Prediction

MOST = 6_000_000  # voxels that travel to the browser; of larger volumes every second, third ... of each axis
TALL = 420  # page pixels
FAINT = 0.1  # opacity of a scan around the bodies inside it
BACKENDS = ("niivue", "itk", "picture")
TRUTH, PREDICTED = "reference", "prediction"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume(Shown):
    """What is shown in 3D: one channel and the label maps by name, with every `step`-th voxel of each axis."""

    name: str
    image: np.ndarray
    grid: Grid
    channel: str
    labels: Labels
    maps: dict[str, LabelArray]
    step: tuple[int, ...]

    @property
    def note(self) -> str | None:
        """What was left out, or None."""
        if max(self.step) == 1:
            return None
        return f"too large for a browser: every {times(self.step)} voxels one is shown, {times(self.grid.shape)} in all"

    def __repr__(self) -> str:
        return f"{self.name!r} in 3D: {self.channel}{''.join(f', {name}' for name in self.maps)}"


def volume_of(layers: Layers, name: str) -> Volume:
    """The first channel with what is known of its labels. Raises `DisplayError` for a 2D image."""
    grid = layers.image.grid
    if grid.dimensions == 2:
        raise DisplayError(
            f"case {name!r} is a flat image of {times(grid.shape)} pixels: there is nothing to turn. Use browse()."
        )
    step = steps_for(grid, MOST)
    cut = tuple(slice(None, None, s) for s in step)
    channel, array = layers_of(layers.image)[0]
    array = array[cut] if array.ndim == 3 else array[cut].mean(axis=-1)
    maps = {k: m[cut] for k, m in ((TRUTH, layers.truth), (PREDICTED, layers.predicted)) if m is not None}
    spacing = tuple(a * b for a, b in zip(grid.spacing, step, strict=True))
    coarse = replace(grid, shape=array.shape, spacing=spacing)  # the first voxel stays where it is
    return Volume(name=name, image=array, grid=coarse, channel=channel, labels=layers.labels, maps=maps, step=step)


def steps_for(grid: Grid, most: int) -> tuple[int, ...]:
    """How many voxels to go on along each axis so that at most so many are left: the finest axis is thinned first.

    >>> steps_for(Grid.of((100, 512, 512), (2.0, 0.7, 0.7)), 6_000_000)
    (1, 3, 2)
    """
    step = [1] * 3
    while np.prod([-(-n // s) for n, s in zip(grid.shape, step, strict=True)]) > most:
        finest = min(range(3), key=lambda a: grid.spacing[a] * step[a])
        step[finest] += 1
    return tuple(step)


@render.register
def show_volume(volume: Volume) -> str:
    """The surface of each label map, drawn without a browser."""
    ignore = volume.labels.ignore
    seen = np.any([(m > 0) & (m != (0 if ignore is None else ignore)) for m in volume.maps.values()], axis=0)
    span = span_of(seen, volume.grid) if seen.any() else None
    pictures = [[(surface(volume, name, span), name)] for name in volume.maps] if span else []
    shown = gallery(*pictures) if pictures else text("nothing is labelled, so there is no surface to show")
    return card("In 3D", volume.name, shown, legend(volume.labels), note=volume.note)


def surface(volume: Volume, name: str, span: Span) -> Html:
    """A picture of one of the label maps; all have the same `span`, so that they can be compared."""
    data = surface_png(volume.maps[name], volume.grid, span, ignore=volume.labels.ignore)
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return tag("img", src=source, width=270, height=270, alt=f"surfaces of the {name}", class_="as-picture")


def show_case_3d(case: Case, *, backend: str) -> Any:
    """A case with its reference."""
    return show_3d(volume_of(layers_of_case(case), case.name), backend)


def show_prediction_3d(prediction: Prediction, *, backend: str) -> Any:
    """A prediction with the reference where there is one."""
    return show_3d(volume_of(layers_of_prediction(prediction), prediction.case.name), backend)


def show_3d(volume: Volume, backend: str) -> Any:
    """The volume in one of `BACKENDS`."""
    if backend not in BACKENDS:
        raise DisplayError(f"there is no 3D viewer {backend!r}. Known: {', '.join(BACKENDS)}.")
    if backend == "picture":
        return volume
    return VolumeViewer(volume) if backend == "niivue" else in_itk(volume)


def nifti(array: np.ndarray, grid: Grid) -> bytes:
    """A zipped NIfTI file in memory."""
    return gzip.compress(to_nibabel(array, grid).to_bytes(), compresslevel=1)


class VolumeViewer(Interactive):
    """NiiVue with the label maps over the image. `.niivue` is ipyniivue's own widget, `.opacities` the sliders."""

    def __init__(self, volume: Volume) -> None:
        try:
            import ipyniivue
        except ModuleNotFoundError as error:
            raise DisplayError(
                f"3D in the page needs {error.name}. Install it: pip install ipyniivue, "
                'or see a picture with show_3d(backend="picture").'
            ) from error
        self.volume = volume
        low, high = window_of(volume.image, volume.channel)
        scan = {
            "name": "image.nii.gz",
            "data": nifti(_compact(volume.image), volume.grid),
            "cal_min": low,
            "cal_max": high,
        }
        self.scan = ipyniivue.Volume(**scan, colormap="gray", colorbar_visible=False)
        self.overlays = {name: self._overlay(ipyniivue.Volume, name) for name in volume.maps}
        self.niivue = ipyniivue.NiiVue(height=TALL, **_options(ipyniivue))
        self.niivue.load_volumes([self.scan, *self.overlays.values()])
        self.niivue.set_slice_type(ipyniivue.SliceType.MULTIPLANAR)
        shown = {"scan": self.scan, **self.overlays}
        self.opacities = {name: _slider(name, layer) for name, layer in shown.items()}
        note = tag("small", volume.note) if volume.note else None
        view = widgets.ToggleButtons(options=["slices and 3D", "3D"], style={"button_width": "110px"})
        view.observe(lambda change: self._turn(ipyniivue.SliceType, change.new), names="value")
        super().__init__([row(view, *self.opacities.values()), self.niivue, words(legend(volume.labels), note)], volume)

    def _overlay(self, kind: Any, name: str) -> Any:
        """A label map as a volume of its own, in the labels' colours."""
        labels = self.volume.labels
        data = nifti(np.maximum(self.volume.maps[name], 0).astype(np.uint8), self.volume.grid)
        first = PREDICTED if PREDICTED in self.volume.maps else TRUTH
        made = kind(name=f"{name}.nii.gz", data=data, opacity=0.5 if name == first else 0.0, colorbar_visible=False)
        values = [0, *(v for v in labels.permitted if v)]
        colours = [(0, 0, 0), *(rgb(colour_of(v, labels.ignore)) for v in values[1:])]
        red, green, blue = (list(c) for c in zip(*colours, strict=True))
        clear = [0] + [255] * (len(values) - 1)
        made.set_colormap_label({"R": red, "G": green, "B": blue, "A": clear, "I": values})
        return made

    def _turn(self, kinds: Any, view: str) -> None:
        """Slices need the scan; the bodies of the labels are inside it, so in 3D alone it gives way to them."""
        alone = view == "3D" and any(labels.any() for labels in self.volume.maps.values())
        self.niivue.set_slice_type(kinds.RENDER if view == "3D" else kinds.MULTIPLANAR)
        self.opacities["scan"].value = FAINT if alone else 1.0


def _slider(name: str, layer: Any) -> widgets.FloatSlider:
    """How much is seen of the scan or of a label map."""
    slider = widgets.FloatSlider(
        value=layer.opacity, min=0, max=1, step=0.05, description=name, style=WIDE, layout=widgets.Layout(width="230px")
    )
    slider.observe(lambda change: setattr(layer, "opacity", change.new), names="value")
    return slider


def _options(ipyniivue: Any) -> dict[str, Any]:
    """As everywhere in autoseg: the patient's right at the left; slices and the turnable volume in a square of four."""
    return {
        "is_radiological_convention": True,
        "sagittal_nose_left": True,
        "is_orient_cube": True,
        "multiplanar_show_render": ipyniivue.ShowRender.ALWAYS,
        "multiplanar_layout": ipyniivue.MultiplanarType.GRID,
        "multiplanar_equal_size": True,
        "crosshair_width": 0.2,
        "crosshair_color": (0.36, 1.0, 0.36, 0.8),
    }


def _compact(image: np.ndarray) -> np.ndarray:
    """Whole numbers in half the bytes, where that loses nothing."""
    whole = np.abs(image).max(initial=0) < 32_000 and np.array_equal(image, np.rint(image))
    return image.astype(np.int16) if whole else image


def in_itk(volume: Volume) -> Any:
    """itkwidgets' viewer. Raises `DisplayError` where it is not installed; it loads its page from the internet."""
    try:
        from itkwidgets import view
    except ImportError as error:
        raise DisplayError(
            f'backend="itk" needs itkwidgets 1.0 ({error}), its JupyterLab extension, and the internet, '
            "from where it loads its viewer. "
            "Install both: pip install --pre 'itkwidgets[lab]' imjoy-jupyterlab-extension; "
            'or use backend="niivue", which needs none.'
        ) from error
    shown = volume.maps.get(PREDICTED, volume.maps.get(TRUTH))
    labels = {} if shown is None else {"label_image": to_sitk(shown.astype(np.uint8), volume.grid)}
    return view(image=to_sitk(_compact(volume.image), volume.grid), **labels)
