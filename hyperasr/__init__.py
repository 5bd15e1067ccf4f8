"""hyperasr: speech to text with a HyperConformer. Importing this package never imports torch."""

from hyperasr.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    HyperAsrError,
    ManifestError,
    OutputError,
)
from hyperasr.transcript import Segment, Transcript, Word

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "CheckpointError",
    "ConfigError",
    "HyperAsrError",
    "ManifestError",
    "OutputError",
    "Segment",
    "Transcript",
    "Word",
    "__version__",
]
