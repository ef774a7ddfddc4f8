"""What stores of tests say of what made them."""

from typing import Any


def made_by(stage: str, **changes: Any) -> dict[str, Any]:
    """A provenance of nothing in particular."""
    plain = {"parameters": {}, "seed": None, "code": "c0de" * 16}
    return {"stage": stage, **plain, "weights": {}, "versions": {}, "upstream": {}, **changes}
