"""What all tables of our TOML files are to pydantic (``tomlfile.validate`` says it to people).

Apart from ``tomlfile``, which everybody imports: pydantic takes a while to import.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """No key that is not known, and no value that would have to be converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


def allowed(text: str) -> dict[str, Any]:
    """What ``check --keys`` says of a field where its type does not say enough."""
    return {"allowed": text}
