"""The short form of ``benchmarks/soak.py``: everything goes wrong at random, for seconds instead of hours."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import MODES, Soak


@pytest.mark.parametrize("mode", MODES)
def test_each_number_is_accounted_for(tmp_path: Path, mode: str) -> None:
    """Each is delivered (twice only where something excuses it) or counted as dropped, and every snapshot balances."""
    report = Soak(mode, seed=1, processes=2, threads=2, directory=tmp_path).run(2.5, records=1000)
    assert report.findings == []
    assert report.logged >= 1000
    assert report.snapshots > 10
    assert len(report.happened) > 1
