"""Recipes: which units of many insertions are pooled, around which events, over which trials.

Each data set has its own names: what a recipe says under ``of.<data set>`` holds for the insertions of that one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chunking.perievent import Window
from chunking.pool_schema import POOLED, of_alignment
from chunking.session_schema import VARIABLES
from loaders.errors import BadArgument, NotFound
from loaders.formats import FORMATS
from loaders.regions import LEVELS

_INCLUDED = Path(__file__).parent / "recipes"
_NAME = re.compile(r"[A-Za-z]\w*")
_RECIPE = {"name": str, "units": str, "alignments": dict}
_OF_DATASET = {"units": str, "trials": str, "events": str, "alignments": dict}
_RECIPE_OPTIONS = {"about": str, "trials": str, "events": str, "regions": str, "of": dict}
_ALIGNMENT = {"on": str, "window": list, "width": (str, int, float), "conditions": dict}
_ALIGNMENT_OPTIONS = {"stride": (str, int, float)}


@dataclass(frozen=True, slots=True)
class Alignment:
    """One event, the bins around it, and the conditions of its trials.

    Attributes
    ----------
    name : str
        Of its variables.
    on : str
        The column of the events that has the times.
    window : Window
    conditions : mapping of str to str
        Expressions over the columns of the events, by name of the condition.
    """

    name: str
    on: str
    window: Window
    conditions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What `cubes.pool` makes.

    Attributes
    ----------
    name : str
    units : str
        ``good``, ``all``, or an expression over the labels of the units.
    events : str
        The product of the session that has the events: ``trials``, ``stimuli`` ...
    trials : str
        An expression over its columns, such as ``bwm_include``; empty for all of them.
    level : str
        Of the regions: allen, beryl, cosmos or swanson.
    alignments : tuple of Alignment
    text : mapping
        The recipe as it was given.
    datasets : mapping of str to Recipe
        What holds in its place for insertions of other data sets.
    """

    name: str
    units: str
    events: str
    trials: str
    level: str
    alignments: tuple[Alignment, ...]
    text: Mapping[str, Any]
    datasets: Mapping[str, Recipe]

    def of(self, dataset: str) -> Recipe:
        """What holds for insertions of a data set."""
        return self.datasets.get(dataset, self)


def read_recipe(recipe: str | Path | Mapping[str, Any]) -> Recipe:
    """A recipe from its name, its file, or itself.

    Parameters
    ----------
    recipe : str, path or mapping
        Name of a recipe that the package has, such as ``bwm``; path of a ``.toml`` file; or what such a file holds.

    Raises
    ------
    NotFound
        If there is no such recipe or file.
    BadArgument
        If it is no TOML, or anything in it is unknown, missing or of another kind than expected.

    Examples
    --------
    >>> recipe = read_recipe("bwm")
    >>> [(alignment.name, alignment.on, alignment.window.n) for alignment in recipe.alignments]
    [('block', 'stimOn_times', 139), ('stim', 'stimOn_times', 67), ('choice', ..., 67), ('fback', ..., 331)]
    """
    given = recipe if isinstance(recipe, Mapping) else _read(recipe)
    _check(given, "recipe", _RECIPE, _RECIPE_OPTIONS)
    base, datasets = _parse(given), {}
    for dataset, other in given.get("of", {}).items():
        if dataset not in FORMATS:
            raise BadArgument(f"recipe: of: expected data sets, {', '.join(FORMATS)}, got {dataset!r}")
        _check(other, f"recipe: of.{dataset}", {}, _OF_DATASET)
        datasets[dataset] = _parse(_merged(given, other, f"recipe: of.{dataset}"))
    return replace(base, datasets=datasets)


def _merged(given: Mapping[str, Any], other: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A recipe with some parts replaced; alignments and conditions can be other ones, but neither more nor fewer."""
    merged = {name: value for name, value in {**given, **other}.items() if name != "of"}
    alignments = {name: dict(value) for name, value in given["alignments"].items()}
    for name, parts in other.get("alignments", {}).items():
        if name not in alignments:
            raise BadArgument(f"{where}.alignments: expected {', '.join(alignments)}, got {name!r}")
        _check(parts, f"{where}.alignments.{name}", {}, {"on": str, "conditions": dict})
        conditions = alignments[name].get("conditions", {})
        if unknown := sorted(set(parts.get("conditions", {})) - set(conditions)):
            raise BadArgument(
                f"{where}.alignments.{name}.conditions: expected {', '.join(conditions)}, got {', '.join(unknown)}"
            )
        alignments[name] |= {**parts, "conditions": {**conditions, **parts.get("conditions", {})}}
    return merged | {"alignments": alignments}


def _parse(given: Mapping[str, Any]) -> Recipe:
    name = _named(given["name"], "recipe: name")
    level = given.get("regions", "beryl")
    if level not in (levels := [known.lower() for known in LEVELS]):
        raise BadArgument(f"recipe {name}: regions: expected one of {', '.join(levels)}, got {level!r}")
    if not given["alignments"]:
        raise BadArgument(f"recipe {name}: alignments: expected at least one, got none")
    alignments = tuple(_alignment(key, value) for key, value in given["alignments"].items())
    _refuse_same_names(alignments)
    events, trials = given.get("events", "trials"), given.get("trials", "")
    if events not in VARIABLES:
        raise BadArgument(f"recipe {name}: events: expected a product of a session, such as trials, got {events!r}")
    return Recipe(name, given["units"], events, trials, level, alignments, given, {})


def _read(recipe: str | Path) -> dict[str, Any]:
    path = Path(recipe)
    if path.suffix != ".toml":
        path = _INCLUDED / f"{recipe}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in _INCLUDED.glob("*.toml")))
        raise NotFound(f"recipe {str(recipe)!r}: expected {known}, or a .toml file; there is no {path.name}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadArgument(f"recipe {recipe}: expected TOML, got {error}") from error


def _alignment(name: str, given: Any) -> Alignment:
    where = f"recipe: alignments.{_named(name, 'recipe: alignments')}"
    _check(given, where, _ALIGNMENT, _ALIGNMENT_OPTIONS)
    conditions = given["conditions"]
    if not conditions:
        raise BadArgument(f"{where}.conditions: expected at least one, got none")
    for condition, expression in conditions.items():
        if not isinstance(expression, str):
            raise BadArgument(
                f"{where}.conditions.{condition}: expected an expression over the columns of the events, such as "
                f"'choice == 1', got {expression!r}"
            )
    try:
        window = Window.parse(tuple(given["window"]), given["width"], given.get("stride"))
    except BadArgument as error:
        raise BadArgument(f"{where}: {error}") from error
    return Alignment(name, given["on"], window, dict(conditions))


def _check(given: Any, where: str, needed: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise BadArgument unless `given` has the keys that it needs, no unknown ones, and values of the right kind."""
    if not isinstance(given, Mapping):
        raise BadArgument(f"{where}: expected {', '.join(needed)}, got {given!r}")
    known = {**needed, **options}
    if unknown := sorted(map(str, set(given) - set(known))):
        raise BadArgument(f"{where}: expected {', '.join(known)}, got also {', '.join(unknown)}")
    if missing := [key for key in needed if key not in given]:
        raise BadArgument(f"{where}: {', '.join(missing)} is missing; expected {', '.join(needed)}")
    for key, value in given.items():
        kinds = known[key] if isinstance(known[key], tuple) else (known[key],)
        if kinds == (list,) and isinstance(value, tuple):
            continue
        if not isinstance(value, kinds) or isinstance(value, bool):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise BadArgument(f"{where}.{key}: expected {names}, got {value!r}")


def _named(name: Any, where: str) -> str:
    """The name, if variables and files may be called so."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadArgument(f"{where}: expected a name of letters, digits and _, got {name!r}")
    return name


def _refuse_same_names(alignments: tuple[Alignment, ...]) -> None:
    """Raise BadArgument if two variables would have one name, such as those of ``stim`` and ``stim_n``."""
    taken = set(POOLED)
    for alignment in alignments:
        names = set(of_alignment(alignment.name))
        if twice := sorted(taken & names):
            raise BadArgument(
                f"recipe: alignments.{alignment.name}: its variable {twice[0]} has the name of another; rename it"
            )
        taken |= names
