"""Displays of plans: a card for each configuration, and every decision with its reason."""

from __future__ import annotations

from autoseg.data.normalization import name_of
from autoseg.display import render
from autoseg.display.html import Html, beside, card, facts, fold, inner_card, join, section, table, tag
from autoseg.display.sketches import feature_maps, patch_in_image, unet
from autoseg.display.words import number, times, value_of
from autoseg.planning.configuration import Configuration


@render.register
def show_configuration(configuration: Configuration) -> str:
    return card(
        "Configuration",
        configuration.name,
        configuration_details(configuration),
        note=f"for {configuration.dataset_name}",
    )


def configuration_details(configuration: Configuration) -> Html:
    """All of a configuration, the rarely asked parts folded."""
    return join(
        facts(essence(configuration)),
        beside(_patch(configuration), _network(configuration)),
        fold("Stages of the network", stage_table(configuration), hint=str(configuration.network.stages)),
        fold("All settings", settings_table(configuration)),
    )


def essence(configuration: Configuration) -> dict[str, object]:
    """What a configuration is, in four numbers."""
    network = configuration.network
    return {
        "patch": times(configuration.patch_size),
        "spacing": times(configuration.spacing, "mm"),
        "batch": configuration.batch_size,
        "network": f"{network.kind} U-Net, {network.stages} stages",
    }


def configuration_card(configuration: Configuration) -> Html:
    """A configuration inside its plan's card."""
    return inner_card("Configuration", configuration.name, facts(essence(configuration)), _patch(configuration),
                      _network(configuration))


def _patch(configuration: Configuration) -> Html:
    share = [min(p / m, 1.0) for p, m in zip(configuration.patch_size, configuration.median_shape, strict=True)]
    told = f"the patch (blue) on the median image of {times(configuration.median_shape)} (grey)"
    if min(share) == 1:
        told += ": it covers all of it"
    return join(patch_in_image(configuration.patch_size, configuration.median_shape, configuration.spacing),
                tag("small", told))


def _network(configuration: Configuration) -> Html:
    network = configuration.network
    return join(unet(network, configuration.patch_size),
                tag("small", "features of each stage; a bar is as long as its feature maps are wide"))


def stage_table(configuration: Configuration) -> Html:
    """One row a stage of the network."""
    network = configuration.network
    sizes = feature_maps(network, configuration.patch_size)
    rows = [
        (i, times(sizes[i]), network.features[i], times(network.kernel_sizes[i]), times(network.strides[i]),
         network.encoder_blocks[i], network.decoder_blocks[i] if i < network.stages - 1 else "–")
        for i in range(network.stages)
    ]
    head = ("stage", "feature map", "features", "kernel", "stride", "encoder blocks", "decoder blocks")
    return table(head, rows, numbers=(2, 5, 6))


def settings_table(configuration: Configuration) -> Html:
    """Every other value."""
    augmentation, resampling = configuration.augmentation, configuration.resampling
    rows = [
        ("axis order", value_of(configuration.axis_order)),
        ("median shape", times(configuration.median_shape)),
        *(
            (f"normalization of {channel}", name_of(n) + (", inside the patient only" if inside else ""))
            for channel, n, inside in zip(
                configuration.channels, configuration.normalization, configuration.mask_background, strict=True
            )
        ),
        ("resampling", f"images order {resampling.image_order}, labels order {resampling.label_order}; "
                       f"the coarse axis on its own beyond {number(resampling.anisotropy)} : 1"),
        ("rotation", f"up to {number(augmentation.rotation_degrees)}°" + (", in the plane only" * augmentation.dummy_2d)),
        ("mirrored axes", value_of(augmentation.mirror_axes)),
        ("cut for augmentation", times(augmentation.initial_patch_size)),
        ("batch Dice", value_of(configuration.batch_dice)),
        ("previous stage", value_of(configuration.previous_stage)),
    ]
    return table(("", ""), rows)


_ = section
