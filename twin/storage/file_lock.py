"""Locks of files, by which processes keep out of each other's way: the system opens them when a process ends."""

import sys
import time
from io import FileIO
from pathlib import Path

# Windows also keeps readers out of what is locked, so the byte that stands for the lock lies past all content.
_OFFSET = 2**31 - 2
# How often it is tried again, in s.
_INTERVAL = 0.05


def try_to_lock(file: FileIO) -> bool:
    """Lock an open file until it is closed or this process ends, however that happens.

    Returns
    -------
    bool
        False when it is locked already.

    Raises
    ------
    OSError
        When the file system has no locks, for example.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_OFFSET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def lock(path: Path, timeout: float) -> FileIO | None:
    """Make a file, if there is none, and lock it; it must be kept open.

    Parameters
    ----------
    path
        The file; its folder must exist.
    timeout
        How long to wait for another process, in s.

    Returns
    -------
    FileIO or None
        None when another process still has it.

    Raises
    ------
    OSError
        When it cannot be made, or not be locked at all.
    """
    deadline = time.monotonic() + timeout
    file = FileIO(path, "a+")
    try:
        while not try_to_lock(file):
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(_INTERVAL)
    except OSError:
        file.close()
        raise
    return file
