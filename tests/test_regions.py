"""Region labels and coordinates, against iblatlas on ids that it knows."""

from functools import cache

import numpy as np
import pytest
from iblatlas.atlas import AllenAtlas
from iblatlas.regions import BrainRegions

from loaders.errors import BadArgument, NotFound
from loaders.region_tree import region_ids
from loaders.regions import LEVELS, acronyms, region_rows, xyz_to_ccf


@cache
def reference():
    return BrainRegions()


@pytest.mark.parametrize("level", LEVELS)
def test_every_known_id_equals_iblatlas(level):
    ids = np.unique(np.abs(reference().id))
    assert acronyms(ids, level).tolist() == reference().id2acronym(ids, mapping=level).tolist()


@pytest.mark.parametrize("level", LEVELS)
def test_the_left_hemisphere_has_the_labels_of_the_right(level):
    ids = np.array([385, 382, 170, 997])
    assert acronyms(-ids, level).tolist() == acronyms(ids, level).tolist()


def test_unknown_ids_keep_the_length_where_iblatlas_shortens():
    ids = np.array([382, 99999999, 385])
    assert len(reference().id2acronym(ids)) == 2  # the defect: every label after the unknown one moves up
    assert acronyms(ids, "Allen").tolist() == ["CA1", "void", "VISp"]
    assert region_rows(ids)[1] == -1


def test_ccf_equals_the_atlas():
    x, y, z = np.random.default_rng(0).uniform(-0.003, 0.003, (3, 50))
    z = -np.abs(z)
    expected = AllenAtlas(mock=True).xyz2ccf(np.c_[x, y, z], ccf_order="apdvml")
    np.testing.assert_allclose(np.c_[xyz_to_ccf(x, y, z)], expected, rtol=0, atol=1e-6)
    assert [float(v[0]) for v in xyz_to_ccf(*np.zeros((3, 1)))] == [5400, 332, 5739]


def walk(acronym, mapping):
    """Brute force: for every structure take its name at the level, and walk upwards until the top."""
    table = reference()
    row_of = {int(number): row for row, number in enumerate(table.id)}
    found = set()
    for row in np.flatnonzero(table.id >= 0):
        at = int(table.mappings[mapping][row])
        while True:
            if table.acronym[at] == acronym:
                found.add(int(table.id[row]))
            if np.isnan(table.parent[at]):
                break
            at = row_of[int(table.parent[at])]
    return found


@pytest.mark.parametrize("mapping", LEVELS)
@pytest.mark.parametrize(
    "acronym", ["root", "CH", "TH", "LGd", "VISp", "HPF", "CA1", "Isocortex", "fiber tracts", "void"]
)
def test_a_region_equals_a_walk_of_the_hierarchy(acronym, mapping):
    if expected := walk(acronym, mapping):
        assert region_ids(acronym, mapping) == expected
    else:
        with pytest.raises(NotFound, match=f"the mapping {mapping} does not have it, but calls it"):
            region_ids(acronym, mapping)


def test_every_region_equals_the_descendants_of_iblatlas():
    table = reference()
    for acronym in np.unique(table.acronym[table.id > 0])[::25]:
        expected = table.descendants(table.acronym2id(acronym))["id"]
        assert region_ids(str(acronym)) == {int(number) for number in expected if number > 0}, acronym


def test_a_region_in_the_wrong_case_is_found():
    assert region_ids("LGD") == region_ids("LGd") == region_ids("lgd")
    assert region_ids("TH") > region_ids("LGd") > region_ids("LGd-sh")
    assert region_ids("TH", "cosmos") == region_ids("TH", "Cosmos")
    assert region_ids("CM") != region_ids("cm")  # two structures that differ in case alone
    with pytest.raises(NotFound, match=r"region 'Cm': .*did you mean CM, cm"):
        region_ids("Cm")


def test_what_is_no_region_gets_a_hint():
    with pytest.raises(NotFound, match=r"region 'VISpp': .*did you mean .*VISp"):
        region_ids("VISpp")
    with pytest.raises(NotFound, match=r"region 'thalamus': .*did you mean TH\?"):
        region_ids("thalamus")
    with pytest.raises(NotFound, match=r"region 'LGd': the mapping Cosmos does not have it, but calls it TH"):
        region_ids("LGd", "Cosmos")
    with pytest.raises(BadArgument, match="mapping: expected one of Allen, Beryl, Cosmos, Swanson, got 'Paxinos'"):
        region_ids("TH", "Paxinos")
