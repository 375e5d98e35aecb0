"""The contract on disk: what a store holds, how it is cut, and how it comes to exist only when it is complete.

====================  =======================================================================
module                idea
====================  =======================================================================
``schema``            the names, units and attributes of every variable; one `validate`
``bins``              exact half-open bins of any rational width (pure)
``counting``          spikes -> counts in one pass
``by_unit``           spikes in order of unit (pure)
``perievent``         bins relative to events, which may overlap; spikes counted in them
``pool_schema``       the variables of a pooled store
``layouts``           named chunk shapes, each with the access pattern that it serves
``patterns``          how stores are read: what layouts are compared by
``products``          what can be built: the protocol, and products by name
``sorting_products``  spikes, counts, channels
``voltage_product``   ap, lf, sync
``linked_product``    ap and lf without a copy: labels in the store, voltage in the file of the source
``link``              which file that is, how it is decoded, and what it must hold
``session_schema``    the variables of the stores of a session
``allen_schema``        those that only Allen sessions have
``session_products``  trials, wheel, pose ..., stored once for all probes of a session
``lfp_product``       lfp_<rate>hz, with or without the two below
``released_product``  lfp_<rate>hz of data sets that publish it filtered
``decimate``          low-pass and decimation, in blocks
``reference``         _car: the median of the good channels of each shank taken away
``destripe``          _destriped: IBL's destriping, in blocks
``saturation``        which samples are saturated, noted while they are read
``microvolt_steps``   microvolts as int16 with a gain
``plan``              the records of a plan: stores, shapes, chunks, bytes; printable
``cost``              what building a store takes: bytes to read, bytes on disk, memory of a task
``calibration``       how fast this machine builds: some tasks of every product, measured
``planner``           pids x products -> a plan; refuses before any work
``room``              whether it fits the disk and the memory
``encode``            codecs, and the empty arrays of a new store
``provenance``        sources, parameters and versions of a product; its build key
``manifest``          every file of a store with size and checksum; `verify`
``cells``             which cells a chunk holds, in words
``decoded``           every chunk decoded, and compared with the sum of its cells
``made_from``         what a store was made of and how, from the store itself
``against_source``    a store compared with its source, bit for bit
``staging``           a store in the making: its folder, its lock, and what an earlier build left
``journal``           which parts of it are on disk for good
``group_commit``      parts that are finished while the disk is busy, committed together
``publish``           staging folder -> final path, in one rename
``homes``             where finished stores go: a folder, or another home
``bucket``            an S3 bucket as a home: manifest last, conditional puts
``icechunk_repo``     a store as an icechunk repository: commits in batches, a tag when it is complete
``objects``           the objects of a bucket, and errors that say what to do
``delivered``         a store in another home, read by key and compared with its manifest
``versions``          replacing a store that others read; removing what nobody can be reading
``executors``         where tasks run: this thread, threads, processes, a dask cluster
``completed``         results of futures as they come, until somebody says stop
``on_processes``      tasks on processes of this machine
``on_dask``           tasks on a dask cluster, whose workers may die
``at_once``           several small insertions in the making at once
``build``             runs a plan
``salvage``           what a damaged store still has
``repair``            a damaged store mended
``rechunk``           by which regions an array is copied into other chunks
====================  =======================================================================
"""
