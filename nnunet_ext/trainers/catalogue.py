"""The tables of recipes for documents and commands, from the declarations."""

from nnunet_ext.networks.registry import specs
from nnunet_ext.networks.spec import NetworkSpec


def families() -> str:
    """Markdown: trainers that share a recipe, in what it differs from nnU-Net's, and where it was published."""
    kinds: list[tuple[NetworkSpec, list[str]]] = []
    for spec in specs():
        same = next((names for first, names in kinds if first.recipe == spec.recipe), None)
        if same is not None:
            same.append(spec.trainer)
        elif spec.recipe:
            kinds.append((spec, [spec.trainer]))
    rows = ["| trainers | differs from nnU-Net's recipe in | published in |", "|---|---|---|"]
    for spec, names in kinds:
        trainers = ", ".join(f"`{name}`" for name in names)
        fields = ", ".join(f"{name} {value}" for name, value in spec.recipe.items())
        sources = ", ".join(f"[{text}]({link})" for text, link in spec.recipe_source)
        rows.append(f"| {trainers} | {fields} | {sources} |")
    return "\n".join(rows)
