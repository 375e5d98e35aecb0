"""Any order of building, interrupting, replacing, damaging, repairing, collecting, reading, against a model of it."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import cubes
from chunking import build, encode, homes
from chunking.manifest import read_manifest, store_files
from cubes.pinned_store import PinnedStore
from loaders.errors import StoreError

LAYOUTS = ("balanced", "by-unit", "by-time")
PLACES = [(build.StoreTask, "_write"), (encode, "consolidate"), (build, "check_store"), (build, "complete")]
PLACES += [(homes, "publish"), (homes, "replace")]
pytestmark = pytest.mark.usefixtures("no_waiting")


class Stop(BaseException):
    """As Ctrl-C, or a kill that leaves the disk as it is."""


class Cubes(RuleBasedStateMachine):
    """One store. The model: which version is there, and what each reader opened."""

    session = None  # the tiny session

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.root = self.folder / "root"
        self.present, self.readers = None, []
        self.plans = {layout: self.plan(layout) for layout in LAYOUTS}
        self.keys = {layout: plan.stores[0].build_key for layout, plan in self.plans.items()}
        self.store = self.root / self.plans["balanced"].stores[0].path

    def plan(self, layout):
        source = cubes.source("folder", self.session.folder)
        return cubes.plan(source, [self.session.pid], ["counts_100ms"], root=self.root, counts_layout=layout)

    def build(self, layout, existing):
        return cubes.build(self.plans[layout], existing=existing, executor="serial")

    @rule(layout=st.sampled_from(LAYOUTS), existing=st.sampled_from(["error", "skip", "replace"]))
    def builds(self, layout, existing):
        if self.present is None or (existing == "replace" and self.present != layout):
            assert self.build(layout, existing) == [self.store]
            self.present = layout
        elif existing == "error" or self.present != layout:
            with pytest.raises(StoreError, match="exist"):
                self.build(layout, existing)
        else:
            assert self.build(layout, existing) == []

    @rule(layout=st.sampled_from(LAYOUTS), place=st.sampled_from(PLACES), after=st.booleans())
    def is_interrupted(self, layout, place, after):
        owner, name = place
        original = getattr(owner, name)

        def stop(*args, **options):
            if after:
                original(*args, **options)
            raise Stop

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(owner, name, stop)
            try:
                self.build(layout, "replace")
            except Stop:
                done = after and name in ("publish", "replace")
            else:  # there already, or nothing of the kind was called
                done = True
        if done and self.present != layout:
            self.present = layout

    @precondition(lambda self: self.present is not None)
    @rule(data=st.data())
    def is_damaged_and_repaired(self, data):
        key = data.draw(st.sampled_from(sorted(store_files(self.store))))
        path = self.store / key
        if data.draw(st.booleans()):
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
        assert key in {problem.key for problem in cubes.verify(self.store)[str(self.store)]}
        (mended,) = cubes.repair(self.store, cubes.source("folder", self.session.folder), executor="serial")
        assert not mended.from_nothing

    @precondition(lambda self: self.present is not None)
    @rule()
    def is_opened(self):
        self.readers.append((PinnedStore(self.store), self.present))

    @rule()
    def is_collected(self):
        if (self.root / "insertions").is_dir():
            cubes.gc(self.root, older_than_s=0)
            self.readers.clear()  # they have no lease here

    @invariant()
    def the_store_is_the_one_of_the_model(self):
        if not hasattr(self, "store"):
            return
        assert self.store.exists() == (self.present is not None)
        if self.present is not None:
            assert read_manifest(self.store)["build_key"] == self.keys[self.present]
            assert cubes.verify(self.store) == {str(self.store): []}

    @invariant()
    def readers_have_what_they_opened(self):
        import xarray as xr

        for pinned, layout in getattr(self, "readers", [])[-2:]:
            ds = xr.open_zarr(pinned, chunks=None)
            assert ds.attrs["build_key"] == self.keys[layout]
            assert np.asarray(ds.counts).sum() == len(self.session.times)

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def run(session, examples, steps):
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Machine", (Cubes,), {"session": session})
    checks = list(HealthCheck)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, database=None
        ),
    )


def test_any_order(tiny):
    run(tiny, 4, 8)


@pytest.mark.fault
@pytest.mark.timeout(3000)
def test_any_order_in_500_examples(tiny):
    run(tiny, 500, 12)
