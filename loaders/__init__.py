"""Sources of recordings, read into plain numpy records; knows files and numbers, not labels or stores.

====================  =======================================================================
module                idea
====================  =======================================================================
``records``           the frozen dataclasses that everything here returns
``errors``            the errors of the whole project, by remedy
``one_cache``         a catalog over a ONE cache folder, offline
``folder``            a catalog over one bare ALF session folder, without any database
``resolve``           file records -> one sorter, one revision, named files (pure)
``readers``           one file -> one checked array or table
``validate``          arrays -> `Spikes`, `Units`, `Channels`, with notes of all that was odd (pure)
``regions``           atlas ids and coordinates -> region acronyms and Allen CCF
``sorting``           the thin sum of the above: a pid -> one `Sorting`
``sample``            a small, format-true sample data set with known truth
====================  =======================================================================
"""
