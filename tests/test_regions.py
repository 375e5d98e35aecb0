"""Region labels and coordinates, against iblatlas on ids that it knows."""

from functools import cache

import numpy as np
import pytest
from iblatlas.atlas import AllenAtlas
from iblatlas.regions import BrainRegions

from loaders.errors import NotFound
from loaders.regions import LEVELS, acronyms, region_ids, region_rows, xyz_to_ccf


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


def test_a_region_includes_what_is_in_it():
    assert region_ids("TH") > region_ids("LGd") > region_ids("LGd-sh")
    expected = {int(i) for i in reference().descendants(reference().acronym2id("TH"))["id"] if i > 0}
    assert region_ids("TH") == expected


def test_a_region_in_the_wrong_case_is_found_and_a_typo_gets_a_hint():
    assert region_ids("LGD") == region_ids("LGd")
    with pytest.raises(NotFound, match=r"region 'VISpp': .*did you mean .*VISp"):
        region_ids("VISpp")
