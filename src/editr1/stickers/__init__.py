"""The embedded domain: stickers on photographs, with an oracle, faulty editors and simulated annotators."""

from typing import Literal

People = Literal["plain", "exacting"]
"""Groups of simulated people, keys of `annotators.PEOPLE`; here, so that settings are read without pictures."""
