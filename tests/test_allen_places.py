"""Places of Allen data: what was not registered, what has no region, no hemisphere."""

import numpy as np
from iblatlas.atlas import ALLEN_CCF_LANDMARKS_MLAPDV_UM

from loaders.allen_places import allen_locations


def test_unregistered_places_have_no_coordinates_and_keep_their_region():
    ccf = np.array([[8453.0, 3353, 6719], [0, 0, 0], [-1000, -1000, -1000], [8000, 0, 6000]])
    places, notes = allen_locations(ccf, ["VISp", "grey", "CA1", "DG-mo"])
    assert np.isnan(places.ccf_ap).tolist() == [False, True, True, False]  # a coordinate of 0 alone is one
    assert [places.ccf_ap[0], places.ccf_dv[0], places.ccf_ml[0]] == [8453, 3353, 6719]
    np.testing.assert_allclose([places.x[0], places.y[0], places.z[0]], [0.00098, -0.003053, -0.003021], rtol=1e-12)
    assert ALLEN_CCF_LANDMARKS_MLAPDV_UM["bregma"].tolist() == [5739, 5400, 332]
    assert places.acronym_allen.tolist() == ["VISp", "grey", "CA1", "DG-mo"]
    assert places.acronym_beryl.tolist() == ["VISp", "root", "CA1", "DG"]
    assert places.atlas_id.tolist() == [385, 8, 382, 10703]
    assert set(places.hemisphere) == {"unknown"}
    assert notes[0] == "2 of 4 places are not registered to the CCF: no coordinates"
    assert "too coarse for Beryl, where they are root: grey" in notes


def test_regions_that_a_level_does_not_have_are_told():
    """Eth is a small nucleus that Swanson does not have; TH is too coarse for all but Cosmos."""
    _, notes = allen_locations(np.ones((4, 3)), ["TH", "Eth", "VISp", "root"])
    assert notes == [
        "too coarse for Beryl, where they are root: TH",
        "too coarse for Swanson, or not in it, where they are root: Eth, TH",
    ]


def test_no_region_is_void_and_an_unknown_one_is_told():
    places, notes = allen_locations(np.ones((4, 3)), ["", "None", "nan", "Xyz"])
    assert places.acronym_allen.tolist() == ["void"] * 4
    assert places.atlas_id.tolist() == [0] * 4
    assert notes == ["acronyms that the atlas does not have, labelled void: Xyz"]
