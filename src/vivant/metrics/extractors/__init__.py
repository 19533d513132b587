"""Feature networks behind one protocol: the published ones, loaded safely, and small ones that need no weights."""

from .protocol import Extractor, TextExtractor, label
from .registry import EXTRACTORS, Row, load, row

__all__ = ["EXTRACTORS", "Extractor", "Row", "TextExtractor", "label", "load", "row"]
