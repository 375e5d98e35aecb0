"""Which structures lie in a region: the hierarchy of the Allen atlas, seen at each of its mappings."""

from __future__ import annotations

import difflib
from functools import lru_cache

from loaders.errors import BadArgument, NotFound
from loaders.regions import LEVELS, brain_regions


@lru_cache
def region_ids(acronym: str, mapping: str = "Allen") -> frozenset[int]:
    """Structure ids of a region and of everything in it.

    Parameters
    ----------
    acronym : str
        Acronym as in the Allen atlas, of any depth: ``CH``, ``TH``, ``LGd``, ``LGd-sh``. Upper and lower case are
        told apart only where that matters.
    mapping : {"Allen", "Beryl", "Cosmos", "Swanson"}
        A structure counts if what this level calls it lies in the region. A level that has no name for a structure
        calls it ``root``: so of ``TH`` there is less at Swanson level than in the whole atlas.

    Returns
    -------
    frozenset of int
        Allen ids of the right hemisphere; those of the left are the same, negative.

    Raises
    ------
    NotFound
        If the atlas has no such region, with similar ones; or if this mapping has nothing in it.
    BadArgument
        If there is no such mapping.

    Examples
    --------
    >>> sorted(region_ids("LGD"))
    [170, 496345664, 496345668, 496345672]
    >>> region_ids("LGd", "Beryl") == region_ids("LGd")
    True
    """
    level = {name.lower(): name for name in LEVELS}.get(mapping.lower())
    if level is None:
        raise BadArgument(f"mapping: expected one of {', '.join(LEVELS)}, got {mapping!r}")
    root = _structure(acronym)
    lineages = _lineages()
    found = frozenset(number for number, mapped in _mapped(level).items() if root in lineages[mapped])
    if not found:
        near = sorted({_acronym_of()[_mapped(level)[number]] for number in lineages if root in lineages[number]})
        raise NotFound(
            f"region {acronym!r}: the mapping {level} does not have it, but calls it {', '.join(near)}; "
            "ask for that, or use the mapping Allen"
        )
    return found


@lru_cache(maxsize=1)
def _acronym_of() -> dict[int, str]:
    """Acronym of every structure. The table has each twice, the left one with a negative id."""
    regions = brain_regions()
    right = regions.id >= 0
    return dict(zip(regions.id[right].tolist(), map(str, regions.acronym[right]), strict=True))


@lru_cache(maxsize=1)
def _lineages() -> dict[int, frozenset[int]]:
    """Every structure with all that it lies in, itself included."""
    regions = brain_regions()
    right = regions.id >= 0
    parent = dict(zip(regions.id[right].tolist(), regions.parent[right].tolist(), strict=True))
    lineages = {}
    for number in parent:
        line, above = [number], parent[number]
        while above in parent:
            line.append(int(above))
            above = parent[above]
        lineages[number] = frozenset(line)
    return lineages


@lru_cache
def _mapped(level: str) -> dict[int, int]:
    """What every structure is called at a level, as an id."""
    regions = brain_regions()
    right = regions.id >= 0
    mapped = regions.id[regions.mappings[level][right]]
    return dict(zip(regions.id[right].tolist(), abs(mapped).tolist(), strict=True))


def _structure(acronym: str) -> int:
    """Id of a structure by its acronym."""
    ids = {name: number for number, name in _acronym_of().items()}
    if acronym in ids:
        return ids[acronym]
    same = [name for name in ids if name.lower() == acronym.lower()]
    if len(same) == 1:
        return ids[same[0]]
    lower = {name.lower(): name for name in ids}
    close = [lower[name] for name in difflib.get_close_matches(acronym.lower(), lower, n=4)]
    similar = same or _by_name(acronym) or close or ["no similar one"]
    raise NotFound(f"region {acronym!r}: not an acronym of the Allen atlas; did you mean {', '.join(similar)}?")


def _by_name(text: str) -> list[str]:
    """Acronyms of the structures that are called so in words, such as thalamus."""
    regions = brain_regions()
    right = regions.id >= 0
    pairs = zip(regions.acronym[right], regions.name[right], strict=True)
    return [str(acronym) for acronym, name in pairs if str(name).lower() == text.lower()]
