"""From a trainer's name and a declaration of targets to the network: encoder or encoders, covariates, heads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from nnunet_ext.networks import tasks
from nnunet_ext.networks.case import CaseNetwork, FusedEncoders
from nnunet_ext.networks.case_zoo import PERCEPTRON
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.outcomes.columns import CLASS, REGRESSION, Column, Schema, schema_from
from nnunet_ext.outcomes.heads import Heads, Projection
from nnunet_ext.trainers.building import build_network
from nnunet_ext.trainers.recipe import Recipe

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

LEVELS, PROJECTED = 4, 256  # of the word MultiLevel: so many last stages, each projected to so many features
DECLARED = "outcomes"
"""Key of a model's plans: what of targets.json its network depends on, in the order of its heads."""


def declaration(schema: Schema, columns: Sequence[Column], recipe: Recipe) -> dict[str, Any]:
    """What goes into the plans: the columns of the heads, and inputs and covariates where the recipe uses them.

    Raises:
        ValueError: the recipe asks for inputs or covariates and none are declared.
    """
    whole = schema.as_dict()
    declared: dict[str, Any] = {"columns": {column.name: whole["columns"][column.name] for column in columns}}
    for word, wanted, key in (("Covariates", recipe.covariates, "covariates"), ("Fused", recipe.fused, "inputs")):
        if wanted and key not in whole:
            raise ValueError(f'The word {word} needs "{key}" in targets.json, which declares none; add them.')
        if wanted:
            declared[key] = whole[key]
    return declared


def declared_in(plans: dict[str, Any]) -> Schema | None:
    """The declaration of a model's plans; None where no case-level training has written them."""
    return schema_from(plans[DECLARED], "plans.json") if DECLARED in plans else None


def refuse_segmentation(trainer: str, plans: Mapping[str, Any]) -> None:
    """Refuses to build a trained model for a command that segments, by a ValueError that names the one to use.

    nnU-Net's predictor, which all of them call, builds networks by the class of the trainer and the model's plans.
    """
    if DECLARED in plans:
        raise ValueError(
            f"{trainer} predicts {', '.join(plans[DECLARED]['columns'])} of a case, not a segmentation; use "
            f"nnunet_ext predict-cases -i IMAGES -o FOLDER -d {plans['dataset_name']} -tr {trainer} "
            f"-p {plans['plans_name']} -c CONFIGURATION."
        )


def check_fusion(spec: NetworkSpec, recipe: Recipe) -> None:
    """Refuses an encoder for each input of a network whose branches choose their channels themselves, by ValueError."""
    if recipe.fused and spec.branches:
        raise ValueError(f"{spec.trainer} has branches for modalities; Fused needs a network with a single encoder.")


def as_trained(columns: Iterable[Column], recipe: Recipe) -> list[Column]:
    """The declared columns as a recipe has heads for them.

    Raises:
        ValueError: the recipe asks for the spread of a number, or for balanced or smoothed classes, and there is none.
    """
    columns = list(columns)
    if recipe.heteroscedastic and all(column.kind != REGRESSION for column in columns):
        raise ValueError("Hetero is for columns of the kind regression, and none is trained; leave the word out.")
    for word, asked in (("Balanced", recipe.balanced), ("Smooth", recipe.smoothing)):
        if asked and all(column.kind != CLASS for column in columns):
            raise ValueError(f"{word} is for columns of the kind class, and none is trained; leave the word out.")
    return [replace(c, spread=recipe.heteroscedastic) if c.kind == REGRESSION else c for c in columns]


def build_case_network(
    spec: NetworkSpec,
    size: str,
    recipe: Recipe,
    configuration: "ConfigurationManager",
    channels: tuple[int, int],
    declared: Schema | None,
) -> CaseNetwork:
    """Builds and initialises a network; without a declaration it has no heads, and its encoder is what counts.

    Args:
        spec: the network,
        size: its size and
        recipe: its training, as the trainer's name says.
        configuration: nnU-Net's.
        channels: of the images; and of logits, for a recipe that segments beside it.
        declared: see :func:`declaration`.

    Raises:
        ValueError: several encoders of a network whose branches choose their channels themselves.
    """
    groups = list(declared.inputs.values()) if declared is not None and recipe.fused else []
    check_fusion(spec, recipe)
    if recipe.multi_level:
        spec = replace(spec, head={**spec.head, "scales": LEVELS})
    counts = [len(group) for group in groups] or [channels[0]]
    make = _with_decoder if recipe.joint else _pooled
    networks = [make(spec, size, recipe, configuration, (count, channels[1])) for count in counts]
    network = networks[0]
    if groups:
        network.put(FusedEncoders([each.encoder for each in networks], groups))
    if declared is not None and recipe.covariates:
        network.covariates = sum(len(covariate.features) for covariate in declared.covariates.values())
    network.heads = _heads(network, spec, recipe, declared, bool(groups))
    return network


def _heads(network: CaseNetwork, spec: NetworkSpec, recipe: Recipe, declared: Schema | None, several: bool) -> Heads:
    columns = as_trained(declared.columns.values(), recipe) if declared is not None else []
    options = spec.perceptron or (PERCEPTRON if several or recipe.multi_level else {})
    if not recipe.multi_level:
        return Heads(network.n_features + network.covariates, columns, **options)
    projection = Projection(network.pooled_widths, PROJECTED, network.covariates)
    return Heads(network.n_features + network.covariates, columns, **options, projection=projection)


def _pooled(
    spec: NetworkSpec, size: str, recipe: Recipe, configuration: "ConfigurationManager", channels: tuple[int, int]
) -> CaseNetwork:
    """The encoder alone, with heads."""
    return cast(CaseNetwork, build_network(spec, size, recipe, configuration, channels[0], 1, False))


def _with_decoder(
    spec: NetworkSpec,
    size: str,
    recipe: Recipe,
    configuration: "ConfigurationManager",
    channels: tuple[int, int],
) -> CaseNetwork:
    """The network that segments, with heads beside its decoder."""
    from nnunet_ext.networks.joint import JointNetwork
    from nnunet_ext.trainers.precision import compute_in

    declared = replace(spec, task=tasks.SEGMENTATION)
    whole: Any = build_network(declared, size, recipe, configuration, *channels, False)
    network = JointNetwork(whole, 1, **spec.pooling)
    network.title, network._version = whole.title, whole._version
    compute_in(network, recipe.precision)
    return network
