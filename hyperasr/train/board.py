"""What a run writes down about itself, for TensorBoard too: event files beside metrics.jsonl.

Event files cannot be corrected. So a resumed run writes them anew, from metrics.jsonl, whose lines
after the state that is resumed are gone: no step is there twice, and a run that began without
TensorBoard shows its beginning. A TensorBoard that is looking on forgets what it had read.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hyperasr.errors import ConfigError
from hyperasr.train.metrics import read_metrics

EVENTS = "events.out.tfevents.*"
FLUSH_SECONDS = 20
TAGS = {
    "loss": "loss/ctc",
    "attention_loss": "loss/attention",
    "learning_rate": "learning_rate",
    "audio_seconds_per_second": "speed/audio_seconds_per_second",
    "waiting": "speed/waiting",
    "skipped": "skipped_steps",
}


class Board:
    """Writes the entries of metrics.jsonl into an event file in the same folder; close it."""

    def __init__(self, folder: Path):
        """Begin with what metrics.jsonl has; raises ConfigError where tensorboard is missing."""
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        for path in folder.glob(EVENTS):
            path.unlink()
        self.writer: Any = SummaryWriter(str(folder), purge_step=0, flush_secs=FLUSH_SECONDS)
        for entry in read_metrics(folder):
            self.add(entry)

    def add(self, entry: dict[str, Any]) -> None:
        """What a line of metrics.jsonl says; what is no number is left out."""
        step = entry["step"]
        if "wer" in entry:
            kind = "wer" if entry.get("averaged", 1) == 1 else "wer_of_the_mean"
            rates = {"all": entry["wer"], **entry.get("by_source", {})}
            values = {f"{kind}/{source or 'dev'}": rate for source, rate in rates.items()}
        else:
            values = {tag: entry[name] for name, tag in TAGS.items() if name in entry}
        for tag, value in values.items():
            if value is not None and value == value:
                self.writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write what is still waiting."""
        self.writer.close()


def check_tensorboard() -> None:
    """Raise ConfigError where the package is missing."""
    if find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard needs tensorboard: pip install 'hyperasr[tensorboard]'")
