"""The tables of recipes for documents and commands, from the declarations."""

from nnunet_ext.networks.registry import specs
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.trainers.word import Word
from nnunet_ext.trainers.words import WORDS


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


def word_cells() -> list[list[str]]:
    """The table of words, its first row the heads."""
    rows = [["word", "what it does", "without it", "memory of a step"]]
    rows += [[word.shape.replace("`", ""), word.effect, word.default, _memory(word)] for word in WORDS]
    return rows


def words() -> str:
    """Markdown: the words in their legal order."""
    rows = ["| word | what it does | without it | memory of a step |", "|---|---|---|---|"]
    rows += [f"| {word.shape} | {word.effect} | {word.default} | {_memory(word)} |" for word in WORDS]
    return "\n".join(rows)


def _memory(word: Word) -> str:
    """Whether ``nnunet_ext plan`` predicts what the word changes."""
    kinds = {}
    for kind in word.memory.values():
        if isinstance(kind, str):
            kinds[kind] = ""
        else:
            for value, each in kind.items():
                kinds[each] = ", ".join(filter(None, [kinds.get(each, ""), str(value)]))
    told = {"no": "the same", "predicted": "predicted", "not predicted": "not predicted: `plan` refuses"}
    if len(kinds) > 1 and all(kinds.values()):
        return "; ".join(f"{names}: {told[kind]}" for kind, names in kinds.items())
    return told["predicted" if "predicted" in kinds else next(iter(kinds))]
