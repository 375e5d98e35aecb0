"""Sources of recordings, read into plain numpy records; knows files and numbers, not labels or stores.

====================  =======================================================================
module                idea
====================  =======================================================================
``records``           the frozen dataclasses that catalogs and sortings are made of
``errors``            the errors of the whole project, by remedy
``one_cache``         a catalog over the tables of a ONE cache, offline; the files are here or on a server
``alyx``              a catalog over an Alyx database, through the ONE client
``alyx_login``        logging that client in, never interactively
``bucket``            a catalog over the public bucket, anonymous
``bucket_url``        the url of a voltage file in it -> the catalog of its session
``insertion_table``   a table of insertions, such as a release -> `Insertion` by pid
``remote_names``      ids in the names of files on servers, and URLs
``folder``            a catalog over one bare ALF session folder, without any database
``allen_catalog``     a catalog over a release of Allen recordings
``allen_release``     where the tables and files of a Visual Behavior release are
``allen_coding``      where those of the Visual Coding recordings are
``allen_manifest``    the manifest of an Allen release -> its files, by version and hash (pure)
``allen_tables``      the five tables of an Allen release, typed and joined
``allen_rows``        rows of the tables of a catalog from those of an Allen release
``allen_places``      CCF coordinates and acronyms as Allen has them -> `Locations` (pure)
``alf_paths``         the parts of ALF paths, and names that may be folders
``formats``           how the files of a data set are read
``inputs``            all that one insertion has, loaded when it is first asked for

``fetcher``           records with a url -> verified files in a cache
``partial_file``      a file that is being fetched
``durable``           waiting until something is on disk
``verified``          hashes of the files of such a cache, each computed once

``resolve``           file records -> one sorter, one revision, named files (pure)
``readers``           one file -> one checked array or table
``validate``          arrays -> `Spikes`, `Units`, `Channels`, with notes of all that was odd (pure)
``regions``           atlas ids and coordinates -> region acronyms and Allen CCF
``region_tree``       which structures lie in a region, at every mapping
``sorting``           the thin sum of the above: a pid -> one `Sorting`

``session_files``     which file holds a dataset of a session, and reading it
``trials``            trials, their labels, and which the brain-wide map includes
``wheel``             the wheel on an even grid, as brainbox filters it; its movements
``cameras``           frame times, tracked points, motion energy, pupil
``passive``           licks, the passive protocol, epochs
``nwb_table``         a table of an NWB file -> plain columns
``allen_files``       the NWB file of an Allen session, as the next two read it
``allen_trials``      its trials and stimuli
``allen_behaviour``   its running, licks, rewards, eyes, optotagging, invalid times
``recording_span``    from when to when a session was recorded, and what lies outside

``raw_files``         file records -> the raw files of one band of one probe (pure)
``meta_text``         the text of a SpikeGLX ``.meta`` -> its tags
``probe_models``      what the parts of Neuropixels probes differ in
``spikeglx_meta``     tags -> rate, channels, gains, probe
``geometry``          meta -> where the sites lie and when they are read
``byte_source``       exact ranges of bytes of a file
``remote_file``       the same of a web server or a public S3 bucket
``checked_source``    the same, compared with checksums of its ranges
``checksum``          CRC-32 of bytes and files
``http_get``          one checked GET
``retry``             patience with servers
``chunk_index``       the ``.ch`` header of mtscomp, by a strict schema
``mtscomp_chunk``     one compressed chunk -> samples, bounded and checked
``cbin``              a compressed recording, any samples of it
``flat_binary``       an uncompressed recording, with the same interface
``recording``         that interface
``blocks``            the buffers and windows that both share
``clock``             samples <-> session seconds, between knots
``hdf5_file``         an HDF5 file opened over any byte source
``hdf5_index``        HDF5 as an index: a dataset -> its ranges of bytes, read without HDF5
``hdf5_filters``      one stored chunk of HDF5 -> its bytes, checked
``published_lfp``     LFP that a data set publishes, and the clock of its timestamps
``sync_lines``        sync channels -> edges of digital lines
``voltage``           the thin sum of the above: a pid and a band -> one `Voltage`
``channel_quality``   snippets of voltage -> dead, noisy and outside channels, by ibl-neuropixel

``nwb_files``         which NWB file of a session holds what, and its bytes
``allen_nwb``         how the files of the Allen Institute are read: the thin sum of what follows
``allen_sorting``     electrodes and units of a session file -> sites and units of one probe
``nwb_spikes``        the spikes of some units of an NWB file
``allen_lfp``         the LFP file of a probe

``releases``          lists of released insertions, which the package carries
``table_schema``      what the tables of a catalog are: columns, types, units
``table_files``       those tables on disk, and how new rows go in with the old
``table_rows``        their rows from records and sortings
``alyx_rows``         their rows from recorded answers of the database
``aggregate_rows``    their rows from tables of units and channels of a whole release
``table_filters``     keeping rows, and saying what was hidden and why
``presence``          which data of an insertion are there (pure)

``sample``            a small, format-true sample data set with known truth
``sample_truth``      what is true of it: insertions, stimuli, identifiers
``sample_records``    the records that describe it: probes, clocks, tracks, sortings
``sample_sites``      its recording sites
``sample_trains``     its spike trains
``sample_sorting``    writes the spike sortings
``sample_voltage``    writes the raw voltage
``sample_behaviour``  writes task, wheel, video and passive protocol
``sample_tables``     writes the tables by which the ONE client finds it
====================  =======================================================================
"""
