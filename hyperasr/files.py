"""Writing a file so that nobody ever sees half of it."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperasr.errors import OutputError

ADVICE = {
    errno.ENOSPC: "free some disk space or write to another folder",
    errno.EDQUOT: "free some of your disk quota or write to another folder",
    errno.EFBIG: "raise the file size limit (ulimit -f) or write to another folder",
    errno.EACCES: "write to a folder of your own or change the permissions",
    errno.EPERM: "write to a folder of your own or change the permissions",
    errno.EROFS: "write to another folder, this disk is read-only",
    errno.EISDIR: "move the folder of that name away or choose another name",
    errno.EEXIST: "a file stands where a folder is needed, choose another folder",
    errno.ENOTDIR: "a file stands where a folder is needed, choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new name beside `path` to write to; at the end it takes the place of `path`.

    Missing folders are created and a link is followed. If anything goes wrong on the way, what
    stood there stays and the new file goes.

    Raises OutputError, saying what to do, if the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".hyperasr-{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {path}: not a plain file; choose another name")
        try:
            yield partial
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        advice = ADVICE.get(error.errno or 0, "choose another folder")
        raise OutputError(f"cannot write {path}: {reason}; {advice}") from error
