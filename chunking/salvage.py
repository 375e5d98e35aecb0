"""What a damaged store still has: its intact chunks go into the staging of the build that mends it."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from chunking.link import LINK
from chunking.made_from import MadeFrom
from chunking.manifest import Files
from chunking.plan import Region, StorePlan, chunks_of, region_of
from chunking.provenance import software
from chunking.staging import Staging
from loaders.errors import InconsistentData


@dataclass(frozen=True, slots=True)
class Salvage:
    """A damaged store, and what is known of it.

    Attributes
    ----------
    store : Path
    made_from : MadeFrom
        How it was made; without files if its manifest is lost, and then nothing is salvaged.
    damaged : collection of str
        Its files that are not as the manifest has them.
    """

    store: Path
    made_from: MadeFrom
    damaged: Collection[str]

    @property
    def is_known(self) -> bool:
        """Whether there is a manifest that says what the store held."""
        return bool(self.made_from.files)

    def intact(self, plan: StorePlan) -> dict[str, Files]:
        """The parts of a plan whose chunks are all intact."""
        parts = {str(region): _chunks(plan, region) for region in plan.regions}
        files, damaged = self.made_from.files, self.damaged
        whole = {part: keys for part, keys in parts.items() if all(k in files and k not in damaged for k in keys)}
        return {part: {key: files[key] for key in keys} for part, keys in whole.items()}

    def adopt(self, stage: Staging, plan: StorePlan, finished: Collection[str]) -> dict[str, Files]:
        """Take the intact parts over, but those that an earlier attempt has finished, as if they had just been made."""
        adopted = {part: files for part, files in self.intact(plan).items() if part not in finished}
        for files in adopted.values():
            for key in files:
                _take(self.store / key, stage.store / key)
        if adopted:
            stage.keep(adopted)
        return adopted

    def refuse_other(self, files: Files) -> None:
        """Raise InconsistentData if the mended store is not what the damaged one was.

        The same software gives the same bytes; another the same cells. A link may lead elsewhere now.
        """
        names = ("bytes", "crc32") if self.made_from.software == software() else ("decoded_crc32",)
        was = {key: facts for key, facts in self.made_from.files.items() if key != LINK}
        other = [k for k, facts in was.items() if any(facts.get(n) != files.get(k, {}).get(n) for n in names)]
        if other:
            raise InconsistentData(
                f"store {self.store}: the source does not give what the store held ({', '.join(other[:4])}), although "
                "its files are named with the same hashes; remove the store and build it again"
            )


def _chunks(plan: StorePlan, region: Region) -> list[str]:
    """The files of the chunks of all arrays in a region."""
    first = plan.arrays[0]
    return [key for array in plan.arrays for key in chunks_of(array, region_of(array, region, first))]


def _take(source: Path, target: Path) -> None:
    """Link a file, or copy it where there are no links. Whoever writes it anew gives it a new file, never new bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
