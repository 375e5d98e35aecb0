"""Insertions of another data set than that of the IBL: how their files are read is their format's affair."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import cubes
from loaders.errors import InconsistentData, NotFound, PlanRefused
from loaders.folder import FolderCatalog
from loaders.formats import FORMATS, Alf
from loaders.inputs import Inputs
from loaders.sorting import load_sorting


class Shouting(Alf):
    """Reads the same files, and gives every unit another name."""

    @staticmethod
    def sorting(catalog, pid, *, sorter=None, revision=None):
        sorting = load_sorting(catalog, pid, sorter=sorter, revision=revision)
        uuid = np.array([name.upper() for name in sorting.units.uuid], dtype=object)
        return replace(sorting, units=replace(sorting.units, uuid=uuid))


class OfAnother(FolderCatalog):
    def insertion(self, pid):
        return replace(super().insertion(pid), dataset="another")


@pytest.fixture
def another(shared_tiny, monkeypatch):
    monkeypatch.setitem(FORMATS, "another", Shouting())
    return OfAnother(shared_tiny.folder)


def test_the_format_of_the_data_set_reads_the_files(another, shared_tiny, tmp_path):
    pid = shared_tiny.pid
    cubes.build(cubes.plan(another, [pid], ["spikes", "counts_100ms"], root=tmp_path))
    tree = cubes.open(tmp_path, pid)
    assert tree["counts_100ms"].uuid.values.tolist() == ["UA", "UB", "UC", "UD"]
    assert FolderCatalog(shared_tiny.folder).insertion(pid).dataset == "ibl"
    assert Inputs(FolderCatalog(shared_tiny.folder), pid).sorting.units.uuid.tolist() == ["ua", "ub", "uc", "ud"]


def test_a_pickle_has_the_format_of_its_data_set(another, shared_tiny):
    again = pickle.loads(pickle.dumps(Inputs(another, shared_tiny.pid)))
    assert again.insertion.dataset == "another"
    assert again.sorting.units.uuid[0] == "UA"


def test_a_data_set_that_nobody_knows_is_refused(shared_tiny):
    with pytest.raises(InconsistentData, match=r"expected an insertion of a known data set \(ibl.*got 'another'"):
        Inputs(OfAnother(shared_tiny.folder), shared_tiny.pid)


def test_what_a_data_set_does_not_have_is_refused_for_its_insertions_alone(another, shared_tiny, tmp_path):
    with pytest.raises((PlanRefused, NotFound)) as refused:
        cubes.plan(another, [shared_tiny.pid], ["trials"], root=tmp_path)
    assert "trials" in str(refused.value)
    with pytest.raises(PlanRefused, match="trails"):  # which no data set has: refused whatever `errors` says
        cubes.plan(another, [shared_tiny.pid], ["trails"], root=tmp_path, errors="report")
