"""Displays of plans: a card for each configuration, and every decision with its reason."""

from __future__ import annotations

from autoseg.core.decisions import Decision, Trace
from autoseg.data.normalization import name_of
from autoseg.display import render
from autoseg.display.colours import bar
from autoseg.display.decisions import decision_table, kinds_in_words
from autoseg.display.html import Html, beside, card, facts, fold, gallery, inner_card, join, table, tag, text
from autoseg.display.sketches import feature_maps, patch_in_image, unet
from autoseg.display.words import count, number, share, times, value_of
from autoseg.planning.budget import Budget
from autoseg.planning.configuration import Configuration
from autoseg.planning.memory import network_elements
from autoseg.planning.plan import Plan

MAIN = ("spacing", "patch_size", "batch_size")  # the decisions whose reasons a plan tells at once
DIGESTED = {"spacing": "spacing", "patch_size": "patch", "batch_size": "batch"}


@render.register
def show_configuration(configuration: Configuration) -> str:
    """The numbers that matter, the patch and the network as drawings, and all settings behind a fold."""
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
    """What a configuration is, in four numbers, and what else a cascade's second stage sees."""
    network = configuration.network
    first, extra = configuration.previous_stage, network.in_channels - len(configuration.channels)
    sees = {"also sees": f"{count(extra, 'label map')} of {first} ({network.in_channels} channels in)"} if first else {}
    return {
        "patch": times(configuration.patch_size),
        "spacing": times(configuration.spacing, "mm"),
        "batch": configuration.batch_size,
        "network": f"{network.kind} U-Net, {count(network.stages, 'stage')}",
        **sees,
    }


def configuration_card(configuration: Configuration, trace: Trace) -> Html:
    """A configuration inside its plan's card: its numbers, two drawings, and the reasons of what matters most."""
    wanted = [f"{configuration.name}/{name}" for name in MAIN]
    reasons = [
        tag("p", tag("b", DIGESTED[d.short_name], " ", value_of(d.value, d.name)), ": ", d.reason, class_="as-text")
        for d in trace
        if d.name in wanted
    ]
    return inner_card(
        "Configuration",
        configuration.name,
        facts(essence(configuration)),
        _patch(configuration),
        _network(configuration),
        *reasons,
    )


def _patch(configuration: Configuration) -> Html:
    drawing = patch_in_image(configuration.patch_size, configuration.median_shape, configuration.spacing)
    return gallery([(drawing, f"patch (blue) on the median image of {times(configuration.median_shape)}")])


def _network(configuration: Configuration) -> Html:
    drawing = unet(configuration.network, configuration.patch_size)
    return gallery([(drawing, "features of each stage; a longer bar is a larger feature map")])


def stage_table(configuration: Configuration) -> Html:
    """One row a stage of the network."""
    network = configuration.network
    sizes = feature_maps(network, configuration.patch_size)
    written = network_elements(network, configuration.patch_size)
    rows = [
        (
            i,
            times(sizes[i]),
            network.features[i],
            times(network.kernel_sizes[i]),
            times(network.strides[i]),
            network.encoder_blocks[i],
            network.decoder_blocks[i] if i < network.stages - 1 else "–",
            bar(written[i] / sum(written), share(written[i] / sum(written)), width=60),
        )
        for i in range(network.stages)
    ]
    head = ("stage", "feature map", "features", "kernel", "stride", "blocks down", "blocks up", "memory")
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
        (
            "resampling",
            f"images order {resampling.image_order}, labels order {resampling.label_order}; "
            f"the coarse axis on its own beyond {number(resampling.anisotropy)} : 1",
        ),
        (
            "rotation",
            f"up to {number(augmentation.rotation_degrees)}°" + (", in the plane only" * augmentation.dummy_2d),
        ),
        ("mirrored axes", value_of(augmentation.mirror_axes)),
        ("cut for augmentation", times(augmentation.initial_patch_size)),
        ("batch Dice", value_of(configuration.batch_dice)),
        ("previous stage", value_of(configuration.previous_stage)),
    ]
    return table(("", ""), rows)


@render.register
def show_budget(budget: Budget) -> str:
    """What training may cost."""
    essence_ = {
        "GPU memory": f"{number(budget.gpu_memory_gb)} GB",
        "preset": budget.preset,
        "a batch holds at most": f"{share(budget.dataset_fraction)} of the dataset's voxels",
    }
    return card("Budget", f"{number(budget.gpu_memory_gb)} GB", facts(essence_))


@render.register
def show_plan(plan: Plan) -> str:
    """A card for each configuration, and every decision with its reason behind folds."""
    given = f", {len(plan.given)} given by you" if plan.given else ""
    groups = grouped(plan)
    return card(
        "Plan",
        plan.fingerprint.dataset_name,
        beside(*(configuration_card(c, plan.trace) for c in plan.configurations)),
        not_planned(plan),
        *(
            fold(f"Decisions for {title}", decision_table(decisions, within=title), hint=kinds_in_words(decisions))
            for title, decisions in groups.items()
        ),
        note=f"{number(plan.budget.gpu_memory_gb)} GB of GPU memory, preset {plan.budget.preset}; "
        f"{count(len(plan.trace), 'decision')}{given}",
    )


def grouped(plan: Plan) -> dict[str, list[Decision]]:
    """The decisions that concern all configurations, then those of each."""
    names = [c.name for c in plan.configurations]
    groups: dict[str, list[Decision]] = {"the whole dataset": [], **{name: [] for name in names}}
    for decision in plan.trace:
        group = decision.name.partition("/")[0]
        groups[group if group in names else "the whole dataset"].append(decision)
    return groups


def not_planned(plan: Plan) -> Html | None:
    """Why there is no low resolution, where there is none."""
    if "lowres" not in plan.trace or plan.trace["lowres"].value is not None:
        return None
    return text(tag("b", "No 3d_lowres, no cascade"), ": ", plan.trace["lowres"].reason)
