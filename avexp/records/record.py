"""The root of all stored types: immutable, no unknown fields, no NaN or infinity; a fault names file and field."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from avexp.core.errors import DataError

Point = tuple[float, float]
"""x, y; pixels or metres, as the field says."""


class Record(BaseModel):
    """A stored value. Reading checks every field; what is stored can be read for ever (formats carry a number)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def from_json(cls, content: bytes | str, where: str) -> Self:
        """Read and check JSON.

        Args:
            content: the JSON text.
            where: file (and key) to name in an error.

        Raises:
            DataError: with the path of the first wrong field.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as fault:
            first = fault.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the JSON text"
            raise DataError(where, f"{place}: {first['msg']}", "correct this field or remove the record") from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read and check a JSON file.

        Raises:
            DataError: the file is missing or wrong.
        """
        if not path.is_file():
            raise DataError(str(path), "no such file")
        return cls.from_json(path.read_bytes(), str(path))

    def to_json(self) -> bytes:
        """Compact JSON; fields that hold their default are left out, so that frames stay small."""
        return self.model_dump_json(exclude_defaults=True).encode()
