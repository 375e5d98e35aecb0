"""Does `cubes advise` say what the whole benchmark says? For every product that has named layouts, by pattern."""

from __future__ import annotations

import numpy as np
import pandas as pd
from cases import LOCAL
from datasets import DATASETS, Dataset
from report import Table

import cubes
from cubes.advising import TIE

GOOD = 1.15  # what was advised may be so much slower than the best of the table: runs differ by as much
LIMIT_S = 10
ALL = "all together"


def advice_of(dataset: Dataset) -> dict[str, str]:
    """The advised layout by pattern, and of all patterns together: from one call, which measures on a part."""
    minutes = dataset.shape[1] * dataset.step_s / 60
    advice = cubes.advise(product=_product(dataset.name), units=dataset.shape[0], minutes=minutes, limit_s=LIMIT_S)
    said = {ALL: advice.layout}
    for pattern in advice.weights:
        seconds = {one.layout: one.seconds for one in advice.tried if one.pattern == pattern}
        said[pattern] = next(name for name, taken in seconds.items() if taken <= TIE * min(seconds.values()))
    return said


def measured(dataset: str, cases: pd.DataFrame, named: list[str]) -> pd.DataFrame:
    """Times over the best named layout, near: (pattern, layout), and the geometric mean of all patterns."""
    near = cases[(cases.dataset == dataset) & (cases.place == LOCAL) & cases.layout.isin(named)]
    times = near.pivot_table("median", "pattern", "layout", sort=False)
    times = times.div(times.min(axis=1), axis=0)
    times.loc[ALL] = np.exp(np.log(times).mean())
    return times


def advice_table(cases: pd.DataFrame, advised: dict[str, dict[str, str]]) -> Table:
    """What is advised, what is the fastest in the table, and how much slower the advised one is there."""
    rows, good = [], 0
    for dataset, said in advised.items():
        named = list(cubes.advise(product=_product(dataset), measure=False).scores)
        times = measured(dataset, cases, named)
        for pattern, layout in said.items():
            cost = times.loc[pattern, layout] / times.loc[pattern].min()
            good += cost <= GOOD
            rows.append([dataset, pattern, layout, times.loc[pattern].idxmin(), f"{cost:.2f}"])
    caption = (
        f"What `cubes advise` says after {LIMIT_S} s a product, and the whole table: in {good} of {len(rows)} rows its "
        f"layout is the fastest of the named ones, near, or within {round(100 * (GOOD - 1))} % of it."
    )
    return Table(caption, ["data", "pattern", "advised", "fastest in the table", "× the fastest"], rows)


def _product(dataset: str) -> str:
    product = DATASETS[dataset].product
    return dataset if product == "lfp" else product


def compared(cases: pd.DataFrame) -> Table:
    """Ask the advisor about every data set of the table."""
    names = [name for name in cases.dataset.unique() if DATASETS[name].product not in ("spikes", "pooled")]
    return advice_table(cases, {name: advice_of(DATASETS[name]) for name in names})
