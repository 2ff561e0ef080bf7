"""From a trainer's name and a declaration of targets to the network: encoder or encoders, covariates, heads."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from nnunet_ext.networks.case import CaseNetwork, FusedEncoders
from nnunet_ext.networks.case_zoo import PERCEPTRON
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.outcomes.columns import Column, Schema, schema_from
from nnunet_ext.outcomes.heads import Heads
from nnunet_ext.trainers.building import build_network
from nnunet_ext.trainers.recipe import Recipe

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

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
            f"{trainer} predicts {', '.join(plans[DECLARED]['columns'])} of a case and segments nothing; use "
            f"nnunet_ext predict-cases -i IMAGES -o FOLDER -d {plans['dataset_name']} -tr {trainer} "
            f"-p {plans['plans_name']} -c CONFIGURATION."
        )


def check_fusion(spec: NetworkSpec, recipe: Recipe) -> None:
    """Refuses an encoder for each input of a network whose branches choose their channels themselves, by ValueError."""
    if recipe.fused and spec.branches:
        raise ValueError(f"{spec.trainer} has branches for modalities; Fused needs a network with a single encoder.")


def build_case_network(
    spec: NetworkSpec,
    size: str,
    recipe: Recipe,
    configuration: "ConfigurationManager",
    input_channels: int,
    declared: Schema | None,
) -> CaseNetwork:
    """Builds and initialises a network; without a declaration it has no heads, and its encoder is what counts.

    Args:
        spec: the network,
        size: its size and
        recipe: its training, as the trainer's name says.
        configuration: nnU-Net's.
        input_channels: of the images.
        declared: see :func:`declaration`.

    Raises:
        ValueError: several encoders of a network whose branches choose their channels themselves.
    """
    groups = list(declared.inputs.values()) if declared is not None and recipe.fused else []
    check_fusion(spec, recipe)
    counts = [len(group) for group in groups] or [input_channels]
    networks = [
        cast(CaseNetwork, build_network(spec, size, recipe, configuration, count, 1, False)) for count in counts
    ]
    network = networks[0]
    if groups:
        network.put(FusedEncoders([each.encoder for each in networks], groups))
    if declared is not None and recipe.covariates:
        network.covariates = sum(len(covariate.features) for covariate in declared.covariates.values())
    options = {name: value for name, value in spec.head.items() if name != "scales"} or (PERCEPTRON if groups else {})
    columns = list(declared.columns.values()) if declared is not None else []
    network.heads = Heads(network.n_features + network.covariates, columns, **options)
    return network
