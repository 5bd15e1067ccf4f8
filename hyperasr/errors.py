"""Everything hyperasr raises on purpose.

HyperAsrError          a person can act on the message; the command line prints it and stops
├── AudioError         a file is missing, unreadable, empty or not audio
│   └── BrokenOffError a file can be read up to some place
├── CheckpointError    a checkpoint folder is incomplete or does not fit the model
├── LanguageModelError an n-gram model cannot be read or does not fit
├── ManifestError      a list of recordings or transcripts cannot be used
├── TextError          a text to learn from or measure on cannot be read
├── ConfigError        settings that contradict each other
├── WorkerError        another process of a training run is gone
├── ClusterError       a cluster was lost on the way
└── OutputError        a result could not be written

Anything else that escapes is a bug and keeps its traceback.
"""

from typing import Any


class HyperAsrError(Exception):
    """Base class: `except HyperAsrError` catches what a user can fix."""


class AudioError(HyperAsrError):
    """An audio file could not be turned into a waveform."""


class BrokenOffError(AudioError):
    """An audio file could not be read to its end; `heard` is the Transcript up to there."""

    def __init__(self, message: str, heard: Any):
        super().__init__(message)
        self.heard = heard


class CheckpointError(HyperAsrError):
    """A checkpoint could not be read or does not match the model."""


class LanguageModelError(HyperAsrError):
    """An n-gram language model is missing, damaged or not one."""


class ManifestError(HyperAsrError):
    """A manifest is missing, malformed or names recordings that cannot be used."""


class TextError(HyperAsrError):
    """A text is missing, damaged, in another encoding or without words."""


class ConfigError(HyperAsrError):
    """Two settings contradict each other."""


class WorkerError(HyperAsrError):
    """Another process of a training run ended before the run did."""


class ClusterError(HyperAsrError):
    """The machines that did the work are gone."""


class OutputError(HyperAsrError):
    """A result could not be written."""
