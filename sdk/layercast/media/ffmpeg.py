"""PyAV, imported only when a video or a camera is used, with its errors translated."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from layercast.errors import MediaError, MissingDependencyError


def import_av() -> ModuleType:
    """The `av` module.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            "video files and cameras need PyAV", hint='install it with: pip install "layercast[video]"'
        ) from error
    return av


@contextmanager
def ffmpeg_errors(what: str) -> Iterator[None]:
    """Raise MediaError, with a hint, for whatever FFmpeg or the system refuses about `what`."""
    av = import_av()
    try:
        yield
    except MediaError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{what}: {_reason(error)}", hint=_hint(error)) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _hint(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return "check the path"
    if number == errno.ENOSPC:
        return "free some space on the disk"
    if number in (errno.EACCES, errno.EPERM):
        return "check the access rights"
    if number == errno.EBUSY:
        return "another program is using it"
    return "damaged, or a format that this build of FFmpeg does not know"
