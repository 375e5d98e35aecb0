"""The URL of a voltage file in the public bucket -> the catalog of its session, whose other files label it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from loaders.bucket import BUCKET, BucketCatalog
from loaders.errors import BadArgument
from loaders.raw_files import band_of
from loaders.records import Insertion
from loaders.releases import release

_KEY = re.compile(
    rf"(?P<bucket>(?:/|^){BUCKET})?/?data/(?P<lab>[^/]+)/Subjects/(?P<subject>[^/]+)/(?P<date>\d{{4}}-\d\d-\d\d)/"
    r"(?P<number>\d{3})/raw_ephys_data/(?P<probe>[^/]+)/(?:#[^/]+#/)?(?P<name>[^/]+)"
)


def session_of_url(url: str, cache: Path) -> tuple[BucketCatalog, Insertion, str]:
    """The catalog of the session of a voltage file, its insertion and its band.

    Parameters
    ----------
    url : str
        Of a ``.cbin`` in the bucket: ``s3://``, ``https://``, or on another server with the bucket in its path.
    cache : Path
        Where the small files beside it go.

    Returns
    -------
    BucketCatalog, Insertion, str
        An insertion of the Brain-Wide Map has its pid; any other is named by its session.

    Raises
    ------
    BadArgument
        If it is another URL.
    """
    parts = urlsplit(url, allow_fragments=False)
    match = _KEY.fullmatch(f"/{BUCKET}{parts.path}" if parts.netloc.startswith(BUCKET) else unquote(parts.path))
    if match is None or not (match["bucket"] or parts.netloc.startswith(BUCKET)):
        raise BadArgument(
            f"url {url}: expected a voltage file of the bucket {BUCKET}, data/<lab>/Subjects/<subject>/<date>/<number>/"
            "raw_ephys_data/<probe>/<name>.cbin; of other servers fetch the file with its .ch and .meta"
        )
    band = band_of(match["name"])
    virtual = parts.netloc.startswith(BUCKET)  # the bucket in the name of the host, as at AWS
    endpoint = None if virtual or parts.scheme == "s3" else f"{parts.scheme}://{parts.netloc}"
    insertion = _insertion(match)
    return BucketCatalog([insertion], cache=cache, endpoint=endpoint), insertion, band


def _insertion(match: re.Match[str]) -> Insertion:
    number, probe = int(match["number"]), match["probe"]
    known = release("2023_12_bwm_release")
    same = known[
        (known["subject"] == match["subject"])
        & (known["date"].astype(str).str[:10] == match["date"])
        & (known["number"] == number)
        & (known["probe"] == probe)
    ]
    facts = {name: match[name] for name in ("lab", "subject", "date")}
    if len(same) == 1:
        return Insertion(str(same["pid"].iloc[0]), str(same["eid"].iloc[0]), probe, **facts, number=number)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{match['subject']}_{match['date']}_{number:03d}_{probe}")
    return Insertion(name.lstrip("._-"), "", probe, **facts, number=number)
