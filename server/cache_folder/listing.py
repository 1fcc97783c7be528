"""Implements `lfm-serve cache`, which shows and clears a cache folder."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

from server.cache_folder.block_names import MARK_DIGITS
from server.cache_folder.entry import read_metadata
from server.cache_folder.folder import EntryFolder
from server.kv_events.blocks import BLOCK_TOKENS

UNKNOWN = "unknown"
"""The model shown for a file without readable metadata."""

Tell = Callable[[str], None]


def show_entries(path: Path, tell: Tell) -> None:
    """Print a table of all entries, the most recently used first."""
    folder = EntryFolder(path)
    listing = folder.listing()
    tell(f"{'NAME':32}  {'MODEL':{MARK_DIGITS}}  {'TOKENS':>7}  {'BYTES':>11}  LAST USED")
    for index in np.argsort(-listing.used, kind="stable"):
        metadata = _metadata(folder, listing.names[index])
        used = datetime.fromtimestamp(listing.used[index]).isoformat(" ", "seconds")
        model, end = metadata.get("model", UNKNOWN)[:MARK_DIGITS], metadata.get("end", "?")
        tell(f"{listing.names[index]}  {model:{MARK_DIGITS}}  {end:>7}  {listing.sizes[index]:>11,}  {used}")


def show_statistics(path: Path, tell: Tell) -> None:
    """Print the number, size and oldest use of the entries, by model and in total."""
    folder = EntryFolder(path)
    listing = folder.listing()
    groups: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(listing.names):
        groups[_metadata(folder, name).get("model", UNKNOWN)[:MARK_DIGITS]].append(index)
    tell(f"{'MODEL':{MARK_DIGITS}}  {'ENTRIES':>8}  {'TOKENS':>10}  {'GIB':>7}  LEAST RECENTLY USED")
    rows = [*sorted(groups.items()), *([("total", list(range(len(listing.names))))] if listing.names else [])]
    for model, indices in rows:
        age = (time.time() - float(listing.used[indices].min())) / 3600
        size = int(listing.sizes[indices].sum()) / 2**30
        tokens = len(indices) * BLOCK_TOKENS
        tell(f"{model:{MARK_DIGITS}}  {len(indices):>8,}  {tokens:>10,}  {size:>7.2f}  {age:.1f} hours ago")


def clear(path: Path, tell: Tell) -> None:
    """Remove the entries of all models. Running servers may keep using the folder."""
    folder = EntryFolder(path)
    listing = folder.listing()
    folder.clear()
    tell(f"Removed {len(listing.names):,} entries, {listing.bytes / 2**30:.2f} GiB.")


def _metadata(folder: EntryFolder, name: str) -> dict[str, str]:
    """Return the metadata in an entry's header; {} if it has none or is unreadable."""
    try:
        with folder.open(name) as file:
            return read_metadata(file)
    except OSError:
        return {}
