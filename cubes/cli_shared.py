"""What the commands share: flags, JSON, and the one line of an error."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter

Json = Annotated[bool, Parameter(negative="")]


def to_json(value: Any) -> str:
    """Indented strict JSON."""
    return json.dumps(value, indent=2, allow_nan=False)


def fail(message: str, code: int = 1) -> int:
    """Tell an error in one line; gives the exit code."""
    print(f"cubes: error: {' '.join(message.split())}", file=sys.stderr)
    return code
