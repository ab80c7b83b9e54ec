"""What the rule gym asks, and of which dataset; the answers stand nowhere, for the planner is asked for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoseg.core.decisions import Decision
from autoseg.data.generated import FAULTS
from autoseg.data.normalization import name_of

NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: `choices` with their meaning (none where a number is asked for), and a hint after a wrong answer.

    `decision` is the one that the planner takes, and `reads` how it is put into words; a fault has no decision.
    """

    asks: str
    hint: str
    choices: Mapping[str, str] = field(default_factory=dict, hash=False)
    decision: str = ""
    reads: Callable[[Decision], Any] = field(default=lambda decision: decision.branch, repr=False, compare=False)


SPACING = Question(
    asks="Which target spacing does the planner choose along the coarsest axis?",
    choices={
        "median": "the median of all cases, as along every other axis",
        "10th percentile": "the 10th percentile, so that thin-sliced cases keep their detail",
        "just above the next axis": "the 10th percentile, but no finer than the next axis",
    },
    hint="Only an axis that is both coarse, beyond three times the next, and short, below a third of the others' "
    "voxels, is not resampled to the median.",
    decision="target_spacing",
)
ORDER = Question(
    asks="In which order does the network see the axes?",
    choices={"as it is": "as the files have them", "coarsest axis first": "turned, so that another axis comes first"},
    hint="Slices are cut across the first axis, so it must be the coarsest; on a tie the first stays.",
    decision="axis_order",
)
RESAMPLING = Question(
    asks="Is the coarsest axis resampled on its own, by nearest neighbour?",
    choices={"coarse axis apart": "yes", "all axes alike": "no, cubic interpolation along all axes"},
    hint="The coarsest target spacing is divided by the finest.",
    decision="resampling",
)
TOPOLOGY = Question(
    asks="Does the 3D network halve all axes from its first step on?",
    choices={"all axes alike": "yes", "coarse axis later": "no, one axis waits, with kernels of 1 until then"},
    hint="Axes are halved together while their spacings differ by less than a factor of two.",
    decision="3d_fullres/topology",
)
DEPTH = Question(
    asks="How many resolutions has the 3D network, the first and the lowest included?",
    hint="An axis is halved, rounded up, while at least four voxels are left.",
    decision="3d_fullres/topology",
    reads=lambda decision: decision.value.stages,
)
DIMENSIONS = Question(
    asks="Which networks are planned?",
    choices={"only 2D": "one for slices", "2D and 3D": "one for slices and one for volumes"},
    hint="A volume has more than one slice after resampling.",
    decision="dimensions",
)
NORMALIZATION = Question(
    asks="How is the first channel normalized?",
    choices={
        "ZScore": "mean 0, deviation 1, case by case",
        "CTNormalization": "clipped and scaled with numbers of the whole dataset",
        "RGBTo01": "divided by 255",
        "RescaleTo01": "from the lowest to the highest intensity, case by case",
        "NoNormalization": "left as it is",
    },
    hint="The channel's name decides, not its voxels; all names that the planner does not know are treated alike.",
    decision="normalization",
    reads=lambda decision: name_of(decision.value),
)
MASK = Question(
    asks="Which voxels count for mean and deviation when a case is normalized?",
    choices={
        "inside the patient": "only those that are not zero",
        "all voxels": "all, the zero background too",
        "none": "none of the case: the training set's numbers are taken",
    },
    hint="The median share of voxels that cropping to what is not zero leaves is compared with three quarters; "
    "and only mean and deviation of a case can be shifted by them.",
    decision="mask_background",
)
PATCH = Question(
    asks="Does the median image fit into the memory as one patch of 3d_fullres?",
    choices={"the median image fits": "yes", "shortened until it fits": "no, the patch is smaller"},
    hint="The first try is the median image, padded until the network can halve it; see plan.why('patch_size').tried.",
    decision="3d_fullres/patch_size",
)
LOWRES = Question(
    asks="Is a low resolution planned, and with it a cascade?",
    choices={
        "not needed": "no, a patch shows enough of the image",
        "planned": "yes, a patch shows too little",
        "dropped": "no: a patch shows too little, but the low resolution would have hardly fewer voxels",
    },
    hint="A patch should show a quarter of the median image; a low resolution has at most half of the voxels.",
    decision="lowres",
)
BATCH = Question(
    asks="What decides the batch size of 3d_fullres?",
    choices={
        "memory decides": "as many patches as memory holds",
        "dataset decides": "5% of all voxels of the dataset",
        "smallest batch": "the minimum of two, because less would come out",
    },
    hint="5% of the dataset's voxels, in patches, rounded, is a second limit beside the memory; two is the least.",
    decision="3d_fullres/batch_size",
)
BATCH_DICE = Question(
    asks="Over what is the Dice loss of 3d_fullres computed?",
    choices={
        "over each patch": "a Dice for each patch, and their mean",
        "over the batch as one": "one Dice, as if the patches were one image",
    },
    hint="Where a patch shows little of the image, as where a low resolution is planned, it often holds no foreground.",
    decision="3d_fullres/batch_dice",
)
ROTATION_2D = Question(
    asks="How are patches of 2d turned while training?",
    choices={
        "a nearly square patch turns freely": "by any angle",
        "an oblong patch turns little": "by up to 15 degrees",
    },
    hint="The longer edge of the patch, padded to what the network can halve, is divided by the shorter one.",
    decision="2d/augmentation",
)
ROTATION = Question(
    asks="How are patches of 3d_fullres turned while training?",
    choices={
        "a flat patch turns in its plane only": "by any angle",
        "the patch turns about each axis": "by up to 30 degrees",
    },
    hint="The patch's longest edge is divided by its first; the patch is padded to what the network can halve.",
    decision="3d_fullres/augmentation",
)
INPUTS = Question(
    asks="How many channels does the first layer of 3d_fullres take?",
    hint="One for each channel of the images.",
    decision="3d_fullres/network",
    reads=lambda decision: decision.value.in_channels,
)
OUTPUTS = Question(
    asks="How many outputs does the last layer of 3d_fullres have?",
    hint="One a class with the background, or one a region without it; what nobody annotated is not learned.",
    decision="3d_fullres/network",
    reads=lambda decision: decision.value.classes,
)
KINDS = {  # of faults, as the check-up calls them
    NOTHING: ("all is well", "Look at names, labels, intensities and grids of all cases."),
    "grids": ("image and label map do not lie in one place", "Compare case.image().grid with case.label().grid."),
    "orientation": ("axes grow in other directions in some cases", "Compare case.image().grid.orientation."),
    "values": ("label values that are not declared", "See numpy.unique(case.stored_label()[0])."),
    "broken": ("label values between whole numbers", "See numpy.unique(case.stored_label()[0])."),
    "intensities": ("an image in place of a label map", "Count the different values of case.stored_label()[0]."),
    "empty": ("a label map without foreground", "See case.stored_label()[0].max()."),
    "unused": ("a declared label that no voxel has", "Compare dataset.labels with the values of all label maps."),
    "sides": ("left and right are labels, and mirroring exchanges them", "Read the names in dataset.labels."),
    "swapped": ("left and right exchanged in some cases", "Compare where case.label() holds each of the two."),
    "nonfinite": ("voxels that are not a number", "See numpy.isfinite(case.image().array).all()."),
    "constant": ("an image with nothing to see in it", "Compare case.image().array.min() with its max()."),
    "scale": ("intensities on another scale in some cases", "Compare case.image().array.std() between cases."),
    "modality": ("CT called something else, or the reverse", "Compare dataset.channels with the lowest intensities."),
    "duplicates": ("one case twice", "Compare the images with each other, voxel by voxel."),
    "leakage": ("several cases of one patient, which folds may part", "Read the names of the cases."),
    "few": ("too few cases for five folds", "See len(dataset)."),
}
LOOK = {name: how for name, (_, how) in KINDS.items()}
FAULT = Question(
    asks="What is wrong with this dataset, if anything? Look at it before you ask autoseg.check.",
    choices={name: words for name, (words, _) in KINDS.items()},
    hint=LOOK[NOTHING],
)
EXERCISES: tuple[tuple[str, Question, float | None], ...] = (  # sample dataset, question, GPU memory
    ("nearly_anisotropic", SPACING, None),
    ("anisotropic", SPACING, None),
    ("thick_but_many", SPACING, None),
    ("mixed_thickness", SPACING, None),
    ("sagittal", ORDER, None),
    ("nearly_sagittal", ORDER, None),
    ("nearly_coarse_axis", RESAMPLING, None),
    ("coarse_axis", RESAMPLING, None),
    ("nearly_twice_as_coarse", TOPOLOGY, None),
    ("twice_as_coarse", TOPOLOGY, None),
    ("nearly_deep", DEPTH, None),
    ("deep", DEPTH, None),
    ("two_slices", DIMENSIONS, None),
    ("single_slice", DIMENSIONS, None),
    ("mri", NORMALIZATION, None),
    ("ct", NORMALIZATION, None),
    ("rgb_undeclared", NORMALIZATION, None),
    ("rgb", NORMALIZATION, None),
    ("rescaled", NORMALIZATION, None),
    ("as_it_is", NORMALIZATION, None),
    ("sparse", MASK, None),
    ("nearly_sparse", MASK, None),
    ("sparse_ct", MASK, None),
    ("not_tiny", PATCH, 0.25),
    ("tiny", PATCH, 0.25),
    ("nearly_huge", LOWRES, 0.25),
    ("not_tiny", LOWRES, 0.25),
    ("huge", LOWRES, 0.25),
    ("few_voxels", BATCH, None),
    ("enough_voxels", BATCH, None),
    ("many_voxels", BATCH, 0.1),
    ("nearly_huge", BATCH_DICE, 0.25),
    ("huge", BATCH_DICE, 0.25),
    ("nearly_flat", ROTATION, None),
    ("flat", ROTATION, None),
    ("oblong", ROTATION_2D, None),
    ("nearly_oblong", ROTATION_2D, None),
    ("many_channels", INPUTS, None),
    ("several_classes", OUTPUTS, None),
    ("regions", OUTPUTS, None),
    ("ignore_label", OUTPUTS, None),
    ("unknown_as_class", OUTPUTS, None),
    *((name, FAULT, None) for name in sorted(FAULTS, key=lambda name: name[::-1])),  # in an order that tells nothing
)
