"""Audio file in, waveform out: mono float32 at 16 kHz, in blocks, never the whole file at once.

    file -> pieces at the file's own rate -> pieces at 16 kHz -> blocks

libsndfile (through soundfile) reads wav, flac, mp3, ogg, opus and more. The `ffmpeg` program, when
installed, reads the rest: m4a, mp4, mkv, wma, and MP3 files that do not state their length. It also
decodes what comes through a pipe, while it comes.
Samples beyond [-1, 1], which float files may hold, are kept as they are, unless they are of another
scale altogether. Messages do not name the file: the command line puts the name in front.
"""

import io
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from hyperasr.errors import AudioError

STDIN = "-"  # the source that stands for standard input
SAMPLE_RATE = 16_000  # Hz, of everything that leaves this file
RATES = range(1_000, 400_001)  # Hz, of what comes in: anything else is a damaged header
LOUDEST = (
    100.0  # 40 dB above full scale; who writes 16-bit numbers into a float file is beyond that
)
PIECE = 2**16  # numbers decoded at a time
SLACK = 0.2  # seconds that a header may promise too much: encoders round up
FLOAT32 = f"f32{sys.byteorder[0]}e"  # numpy's float32, as ffmpeg calls it
LABEL = 2**16  # bytes after the sound that may be no sound: tags, padding
FOREVER = 1e7  # seconds, four months: libsndfile gives more where it does not know the length

Waveform = npt.NDArray[np.float32]


def read(source: Path | str) -> Waveform:
    """Read a whole file as (N,) mono samples at 16 kHz, full scale [-1, 1].

    Raises AudioError, one line, when any part of the file cannot be read.
    """
    return np.concatenate(list(blocks(source)))


def blocks(source: Path | str, seconds: float = 30.0) -> Iterator[Waveform]:
    """Yield what `read` returns in (seconds * 16000,) blocks; the last one may be shorter.

    Memory does not depend on the length of the file. Raises AudioError while iterating: that a
    file is cut off shows where it ends.
    """
    size = round(seconds * SAMPLE_RATE)
    if size < 1:
        raise ValueError(f"a block holds at least one sample, not {seconds} s")
    pieces = _stdin_pieces() if str(source) == STDIN else _pieces(_regular_file(source))
    yield from _cut(pieces, size)


def duration(source: Path | str, ask_ffmpeg: bool = True) -> float | None:
    """Return the seconds that the header states, or None where it states none.

    ffmpeg, a program to start, is asked about what libsndfile cannot read if it may be.

    Raises AudioError when there is no such file, or nothing in it.
    """
    if str(source) == STDIN:
        if not _stdin_is_a_file():
            return None
        source = "/dev/stdin"
    path = _regular_file(source)
    with _libsndfile(path) as sound:
        if sound is None:
            return _ffprobe_duration(path) if ask_ffmpeg else None
        seconds = sound.stated / sound.samplerate
        return seconds if seconds < FOREVER else None


def _regular_file(source: Path | str) -> Path:
    """Return the absolute path of a file that can be opened; absolute, it never looks an option."""
    path = Path(source).absolute()
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError("a folder, not an audio file: name the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("a pipe or device: save the sound to a file first, or pipe it into -")
        path.open("rb").close()
    except FileNotFoundError:
        raise AudioError("no such file: check the name") from None
    except PermissionError:
        raise AudioError("no permission to read it: change it or ask its owner") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise AudioError(f"cannot be opened: {getattr(error, 'strerror', error)}") from None
    if status.st_size == 0:
        raise AudioError("an empty file (0 bytes): copy or record it again")
    return path


def _stdin_is_a_file() -> bool:
    """Whether standard input was redirected from a file; AudioError where nothing can come."""
    if sys.stdin is None or sys.stdin.closed:
        raise AudioError("closed: pipe sound into it, or name a file")
    if os.isatty(0):
        raise AudioError("the keyboard is no sound: pipe some into it, or name a file")
    return stat.S_ISREG(os.fstat(0).st_mode) and os.path.exists("/dev/stdin")


def _stdin_pieces() -> Iterator[Waveform]:
    """Decode standard input: ffmpeg does it while it comes; libsndfile has to have a file."""
    if _stdin_is_a_file():
        yield from _pieces(_regular_file("/dev/stdin"))
    elif shutil.which("ffmpeg"):
        yield from _checked(_ffmpeg("pipe:0"), SAMPLE_RATE)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "stdin")
            with path.open("wb") as copy, open(0, "rb", closefd=False) as stdin:
                shutil.copyfileobj(stdin, copy)
            yield from _pieces(_regular_file(path))


def _pieces(path: Path) -> Iterator[Waveform]:
    """Decode a file to mono at 16 kHz, in pieces of any size."""
    with _libsndfile(path) as sound:
        if sound is None:
            yield from _checked(_ffmpeg(f"file:{path}"), SAMPLE_RATE)
        elif sound.samplerate == SAMPLE_RATE:
            yield from _checked(_decode(sound), SAMPLE_RATE)
        elif sound.samplerate in RATES:
            yield from resample(_checked(_decode(sound), sound.samplerate), sound.samplerate)
        else:
            raise AudioError(
                f"a sample rate of {sound.samplerate} Hz: the file is damaged, copy it again"
            )


def _checked(pieces: Iterable[Waveform], rate: int) -> Iterator[Waveform]:
    """Pass the pieces on, unless a sample is not a number, or one of another scale."""
    count = 0
    for piece in pieces:
        finite = np.isfinite(piece)
        if not finite.all():
            at = (count + int(np.argmin(finite))) / rate
            raise AudioError(f"NaN or infinite samples at {at:.1f} s: export the recording again")
        peak = float(np.abs(piece).max(initial=0.0))
        if peak > LOUDEST:
            raise AudioError(
                f"samples of {peak:,.0f} where 1 is full scale: divide them, as by 32,768 if they "
                "were of 16 bits"
            )
        count += len(piece)
        yield piece


def _cut(pieces: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """Join pieces of any size into blocks of `size` samples, at least one; up to an error, too."""
    held: list[Waveform] = []
    room, came = size, 0
    problem = None
    try:
        for piece in pieces:
            came += len(piece)
            while len(piece) >= room:
                yield np.concatenate([*held, piece[:room]])
                held, piece, room = [], piece[room:], size
            held.append(piece)
            room -= len(piece)
    except AudioError as error:
        problem = error
    if room < size:
        yield np.concatenate(held)
    if problem is not None:
        raise problem
    if came == 0:  # or too few for one sample at 16 kHz
        raise AudioError("no samples in it: record or export it again")


# libsndfile


@contextmanager
def _libsndfile(path: Path) -> Iterator[Any]:
    """Open a file as a soundfile.SoundFile, or give None where ffmpeg has to read it.

    `stated` is its number of frames; it may go on after them.
    """
    name = str(path) if os.name == "nt" else os.fsencode(path)  # soundfile takes str to be UTF-8
    with ExitStack() as stack:
        try:
            sound = stack.enter_context(soundfile.SoundFile(name))
            if sound.frames == 0 and (at := _unwritten_size(path)) is not None:
                mended = stack.enter_context(_Mended(path, at, b"\xff" * 4))
                sound = stack.enter_context(soundfile.SoundFile(mended))
            sound.stated, sound.rest = sound.frames, lambda: 0
            if sound.format == "FLAC" and (length := _flac_length(path)) is not None:
                stated, mended = sound.frames, stack.enter_context(_Mended(path, *length))
                sound = stack.enter_context(soundfile.SoundFile(mended))
                sound.stated, sound.rest = stated, mended.rest
        except (soundfile.LibsndfileError, TypeError):  # TypeError: what is the rate of a .raw?
            sound = None
        if sound is not None and sound.format == "MP3" and not _mp3_states_length(path):
            sound = None
        if sound is not None:
            # Otherwise soundfile seeks after every read, which FLAC of unknown length cannot do.
            sound.seekable = lambda: False
        yield sound


def _decode(sound: Any) -> Iterator[Waveform]:
    """Read mono pieces at the file's rate, and make sure that all of them came."""
    rate, promised, count = sound.samplerate, _promised_frames(sound), 0
    share = np.full(sound.channels, 1 / sound.channels, np.float32)
    total = "" if promised is None else f" of {promised / rate:.1f} s"
    while True:
        size = max(1, PIECE // sound.channels)
        if promised is not None and count < promised:
            size = min(size, promised - count)  # what comes after them may be no sound
        try:
            frames = sound.read(size, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            if count == promised:
                if sound.rest() < LABEL:
                    break
                reason = f"what follows after {count / rate:.1f} s cannot be read"
                raise AudioError(f"{reason}: export the recording again") from None
            place = f"{count / rate:.1f} s{total}"
            raise AudioError(f"damaged or cut off after {place}: copy the file again") from None
        if not len(frames):
            break
        count += len(frames)
        with np.errstate(over="ignore", invalid="ignore"):  # _checked finds what overflowed
            mono = np.einsum("fc,c->f", frames, share)
        yield mono
    if promised is not None and count < promised - SLACK * rate:
        raise AudioError(f"cut off after {count / rate:.1f} s{total}: copy the file again")


# How libsndfile's log says that a header promises more than the file holds.
_SHORTFALLS = (
    re.compile(r"(?:data|SSND|Data Size|riff)\s*: (?P<claimed>\d+) \(should be (?P<found>\d+)\)"),
    re.compile(r"count (?P<found>\d+) does not match value from 'ds64' chunk of (?P<claimed>\d+)"),
)


def _promised_frames(sound: Any) -> int | None:
    """Return how many frames the header promises (libsndfile's own number is what it found)."""
    for pattern in _SHORTFALLS:
        if match := pattern.search(sound.extra_info):
            claimed, found = int(match["claimed"]), int(match["found"])
            # Writers to a pipe cannot know the size and claim 2 or 4 GiB, give or take headers.
            if min(claimed % 2**31, -claimed % 2**31) <= 2**12 < claimed:
                return None
            return int(sound.frames * claimed / max(found, 1))
    return int(sound.stated) if sound.stated / sound.samplerate < FOREVER else None


def _unwritten_size(path: Path) -> int | None:
    """Return where a WAV header says 0 bytes of data because its writer never came back to it."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"data\0\0\0\0") + 4
    if head[:4] != b"RIFF" or at < 4:
        return None
    closed = head[4:8] == struct.pack("<I", (path.stat().st_size - 8) % 2**32)
    really_empty = closed and head[at + 4 : at + 8].strip().isalnum()  # the next chunk's name
    return None if really_empty else at


def _flac_length(path: Path) -> tuple[int, bytes] | None:
    """Return where a FLAC states its length, and how it would state none.

    Files joined packet by packet state the length of the first: libsndfile would stop there.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"fLaC") + 21
    if at < 21 or len(head) < at + 5:
        return None
    return at, bytes([head[at] & 0xF0, 0, 0, 0, 0])  # 36 bits; the first four are of the depth


class _Mended(io.FileIO):
    """A file that reads as if `content` stood at `at`."""

    def __init__(self, path: Path, at: int, content: bytes):
        super().__init__(path)
        self.at, self.content = at, content

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the file, mended where it overlaps the content."""
        start, count, view = self.tell(), super().readinto(buffer) or 0, memoryview(buffer)
        for i in range(max(self.at, start), min(self.at + len(self.content), start + count)):
            view[i - start : i - start + 1] = self.content[i - self.at : i - self.at + 1]
        return count

    def rest(self) -> int:
        """Bytes that were not read."""
        return os.fstat(self.fileno()).st_size - self.tell()


def _mp3_states_length(path: Path) -> bool:
    """Whether an MP3 has a Xing or Info tag that covers all of it.

    Without one, libsndfile guesses the length from the first frames and silently stops there.
    """
    with path.open("rb") as file:
        head = file.read(10)
        start = 0
        if head.startswith(b"ID3"):  # followed by its size, 7 bits to a byte
            start = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
        file.seek(start)
        frame = file.read(4096)
        tag = max(frame.find(b"Xing"), frame.find(b"Info"))
        if tag < 0 or tag + 16 > len(frame):
            return False
        flags, _, size = struct.unpack(">III", frame[tag + 4 : tag + 16])
        if flags & 3 != 3:  # frames and bytes are stated
            return False
        file.seek(start + size)
        return file.read(2**14).count(frame[:2]) < 5  # more frames follow where files were joined


# ffmpeg


def _ffmpeg(url: str) -> Iterator[Waveform]:
    """Let ffmpeg decode the first audio track of file:NAME or pipe:0 to mono pieces at 16 kHz."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError("libsndfile cannot read it: install ffmpeg to read this kind of file")
    command = [program, "-nostdin", "-v", "error", "-i", url, "-map", "0:a:0"]
    # Left to itself ffmpeg makes the mean of two channels 3 dB too loud: rematrix_maxval.
    command += ["-rematrix_maxval", "1", "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", FLOAT32, "-"]
    count = 0
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
            try:
                while data := cast(IO[bytes], process.stdout).read(4 * PIECE):
                    piece = np.frombuffer(data, np.float32, count=len(data) // 4)
                    count += len(piece)
                    yield piece
                process.wait()
            finally:
                process.kill()  # for a reader who leaves early: otherwise it has ended
        log.seek(0)
        said = log.read().replace(os.fsencode(f"{url}: "), b"").decode(errors="replace")
    if problem := _ffmpeg_problem(process.returncode, said, f"{count / SAMPLE_RATE:.1f} s"):
        if url == "pipe:0" and not count:
            problem = (
                "nothing came that ffmpeg can read through a pipe: check what sends it, "
                "or save it to a file first"
            )
        raise AudioError(problem)


def _ffmpeg_problem(code: int, said: str, place: str) -> str | None:
    """Say what went wrong, from ffmpeg's exit code and errors.

    Damaged packets on the way are no failure: ffmpeg goes on after them.
    """
    if "partial file" in said or "ended prematurely" in said:  # with exit code 0
        return f"cut off after {place}: copy the file again"
    if code < 0:
        return f"ffmpeg was stopped by signal {-code} after {place}: try again"
    if "matches no streams" in said:
        return "no audio track in it"
    if code > 0:
        reason = (said.strip().splitlines() or [f"exit code {code}"])[-1]
        return f"not audio that libsndfile or ffmpeg can read: {reason}"
    return None


def _ffprobe_duration(path: Path) -> float | None:
    """Ask ffprobe, which comes with ffmpeg, for the seconds; its guesses do not count."""
    program = shutil.which("ffprobe")
    if program is None:
        return None
    command = [program, "-v", "warning", "-i", f"file:{path}", "-select_streams", "a:0"]
    command += ["-show_entries", "stream=duration:format=duration", "-of", "default=nk=1:nw=1"]
    answer = subprocess.run(command, capture_output=True, check=False)
    if b"Estimating duration" in answer.stderr:
        return None
    numbers = re.findall(rb"^\d+\.\d+", answer.stdout, re.MULTILINE)  # the track's comes first
    return float(numbers[0]) if numbers else None


# Resampling


def resample(pieces: Iterable[Waveform], rate: int) -> Iterator[Waveform]:
    """Resample a stream from `rate` to 16 kHz; how it is cut into pieces makes no difference.

    libsoxr's high quality; torchaudio has no resampler that keeps state between pieces.
    """
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
