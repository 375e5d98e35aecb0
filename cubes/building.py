"""Planning and building cubes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from chunking.build import Built, Progress, run
from chunking.homes import home_of, workplace
from chunking.plan import Options, Plan
from chunking.planner import make_plan
from loaders.records import Catalog

DEFAULT_PRODUCTS = ("spikes", "channels", "counts_20ms")


def plan(
    source: Catalog,
    pids: Iterable[str],
    products: Iterable[str] | None = None,
    *,
    root: str | Path,
    scratch: str | Path | None = None,
    store: str = "zarr",
    sorter: str | None = None,
    revision: str | None = None,
    counts_layout: str = "balanced",
    voltage_layout: str = "balanced",
    window_s: tuple[float, float] | None = None,
    link: Iterable[str] = (),
    lfp_dtype: str = "float32",
    tracker: str = "best",
    errors: str = "raise",
) -> Plan:
    """Plan the stores of some insertions, and refuse what cannot be built. Writes nothing.

    Parameters
    ----------
    source : Catalog
        From `cubes.source`.
    pids : iterable of str
        Probe insertions; also a column of a table, such as ``catalog.insertions(region="CA1")["pid"]``.
    products : iterable of str
        ``spikes`` (every spike), ``channels`` (the recording sites) and ``counts_<width>`` of any width, such as
        ``counts_1ms``, ``counts_20ms`` or ``counts_1_3s``; ``ap`` and ``lf`` (the voltage as recorded);
        ``lfp_<rate>hz`` (low-passed and decimated, uV), such as ``lfp_250hz``, also as ``lfp_250hz_car`` (the median of
        the good channels of each shank taken away) and ``lfp_250hz_destriped`` (as IBL destripes: 0.5-300 Hz, bad
        channels interpolated); ``sync`` (the digital lines). Of the session: ``trials``, ``wheel``, ``wheel_moves``,
        ``licks``, ``passive``, ``epochs``, and of a camera ``pose_left``, ``motion_energy_left``, ``pupil_left``,
        ``camera_times_left`` (also right, body); of Allen ``trials``, ``stimuli``, ``running``, ``licks``, ``rewards``,
        ``eye_tracking``, ``optotagging``, ``invalid_times``; ``session`` stands for all of these that exist.
        By default what is linked or, if nothing is, ``spikes``, ``channels`` and ``counts_20ms``.
    root : path
        Folder of the stores; the store of a product is ``<root>/insertions/<pid>/<product>.zarr``, that of a session,
        once for all its probes, ``<root>/sessions/<eid>/<product>.zarr``. Or a bucket, as ``s3://bucket/prefix``, with
        region and credentials from the usual ``AWS_*`` variables.
    scratch : path, optional
        For a bucket: folder on this machine in which stores are made before they are sent. An interrupted build goes on
        with what is there.
    store : {"zarr", "icechunk"}
        As what a store is published: Zarr, or, with the extra ``ibl-cubes[icechunk]``, an icechunk repository
        ``<product>.icechunk``, which plain xarray reads by its tag ``complete-<build key>``.
    sorter, revision : str, optional
        Exact choice of the spike sorting. Without them the sorting that IBL calls default.
    counts_layout : str
        How ``counts`` is cut into chunks: ``balanced``, ``by-unit`` or ``by-time``.
    voltage_layout : str
        How ``ap``, ``lf`` and ``lfp`` are cut: ``balanced``, ``by-time`` or ``by-channel``.
    window_s : (float, float), optional
        Only this part of ``ap``, ``lf`` and ``lfp``, in session seconds; the end is not included.
    link : iterable of str
        Which of ``ap`` and ``lf`` are not copied: their store has the labels and says where the recording lies and
        what it must hold. `cubes.open` shows them all the same; plain xarray shows only the labels.
    lfp_dtype : str
        ``float32`` (uV), or ``int16`` with the attribute ``gain_to_uV``: half the size, off by half a gain at most.
    tracker : str
        Whose points ``pose_<camera>`` holds: ``lightningPose``, ``dlc`` or ``best``, the first of these that exists.
    errors : {"raise", "report"}
        If an insertion cannot be built: raise the error, or plan the others and keep the reason in ``plan.refused``.

    Returns
    -------
    Plan
        Print it to see stores, shapes, chunks, bytes and memory; ``plan.calibrate()`` tells how long it will take.

    Raises
    ------
    NotFound
        If a pid, sorter or revision does not exist; the message lists what does.
    CorruptData, InconsistentData
        If a source file is damaged, or files contradict each other.
    PlanRefused
        If a product or layout does not exist, or a bin width cannot be used; if a task is larger than the memory, or
        the stores than the free disk even at the best compression seen (a thousandth of counts, a tenth of the rest).

    Examples
    --------
    >>> import cubes
    >>> plan = cubes.plan(cubes.source("one", "sample"), [pid], ["counts_20ms"], root="new-cubes")
    >>> plan.stores[0].arrays[0].shape
    (500, 6000)
    """
    link = tuple(link)
    home = home_of(root, store)
    return make_plan(
        source,
        pids,
        (link or DEFAULT_PRODUCTS) if products is None else products,
        workplace(home, scratch),
        home,
        sorter=sorter,
        revision=revision,
        options=Options(counts_layout, voltage_layout, window_s, link, lfp_dtype, tracker),
        errors=errors,
    )


def build(
    plan: Plan,
    *,
    existing: str = "error",
    executor: str = "threads",
    workers: int = 2,
    progress: Callable[[Progress], None] | None = None,
    errors: str = "raise",
) -> Built:
    """Build every store of a plan. A store appears under its final path only when it is complete and verified.

    Parameters
    ----------
    plan : Plan
        From `cubes.plan`.
    existing : {"error", "skip", "replace"}
        What to do with stores that are there already. ``skip`` leaves what equals the plan, and refuses what does not;
        what another process is building is waited for, after all others, and taken over if that process dies;
        ``replace`` builds that anew: readers keep the version that they opened until `cubes.gc` removes it.
    executor : str
        ``threads``, ``serial``, ``processes`` (a script that asks for them needs ``if __name__ == "__main__":``),
        ``dask`` (a cluster on this machine), or the address of a dask scheduler, such as ``tcp://10.0.0.1:8786``, whose
        workers see the same files. The bytes are the same.
    workers : int
        Threads or processes. Memory is what Python and its libraries take, once a process, and ``workers`` times the
        ``task_bytes`` of the plan at most; source files are mapped and take only what the system can spare. Except
        serially, up to eight insertions are built at once, of together up to 500 MB of arrays; larger ones one after
        another.
    progress : callable, optional
        Called with a `Progress` after every task, from any thread, but never from two at once.
    errors : {"raise", "report"}
        If an insertion fails: raise the error, or go on with the others and keep the reason in the result. What was
        built stays either way, and the same build with ``existing="skip"`` does only what is missing. An error that is
        raised lets the insertions that have begun come to their end.

    Returns
    -------
    list of Path or str
        The stores that were built, by path or url; its attribute ``failed`` says why insertions failed, or were refused
        by the plan.

    Raises
    ------
    StoreError
        If a store exists (with ``existing="error"``), the root cannot be written to, another build holds a store
        (unless what exists is skipped), or workers die of a task.
    InconsistentData
        If the source changed since the plan was made.
    PlanRefused
        If the tasks of all workers may hold more than the memory of this machine or, on a cluster, of its workers.
    SourceUnavailable
        If the dask scheduler does not answer, or its cluster has had no workers for a minute; also with
        ``errors="report"``. In both cases what is complete is kept, and building again goes on.

    Examples
    --------
    >>> import cubes
    >>> plan = cubes.plan(cubes.source("one", "sample"), [pid], ["counts_20ms"], root="new-cubes")
    >>> [store.name for store in cubes.build(plan)]
    ['counts_20ms.zarr']
    """
    return run(plan, existing=existing, executor=executor, workers=workers, progress=progress, errors=errors)
