"""Whose fault an error is: the item's, the network's, the machine's, memory's or the program's. A pure table of cases.

A bad item is quarantined; a transient error is tried again and then stops the run with its item pending; a bad
machine stops the run; too little memory, or a broken device, costs an attempt; a bug is quarantined as such. An error
may say it itself by an attribute `fault`.
"""

from __future__ import annotations

import errno
import re
from typing import Literal, get_args

from schemas.files.places import StoreError

Fault = Literal["item", "transient", "machine", "memory", "device", "bug"]

_FAULTS: tuple[Fault, ...] = get_args(Fault)

_ERRNO: dict[int, Fault] = {
    **dict.fromkeys(
        (
            errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED,
            errno.ECONNABORTED, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EHOSTUNREACH,
            errno.EHOSTDOWN, errno.ENOTCONN, errno.ESTALE, getattr(errno, "EREMOTEIO", errno.EIO),
        ),
        "transient",
    ),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE), "machine"),
    errno.ENOMEM: "memory",
}  # fmt: skip

_NAMES: dict[str, Fault] = {
    "OutOfMemoryError": "memory",
    **dict.fromkeys(
        (
            "APIConnectionError", "APITimeoutError", "ConnectError", "ConnectTimeout", "EndpointConnectionError",
            "IncompleteRead", "PoolTimeout", "ReadError", "ReadTimeout", "ReadTimeoutError", "RemoteProtocolError",
        ),
        "transient",
    ),
}  # fmt: skip
"""Of classes that are not imported here, by their name or that of a class they are made from."""

_WORDS: tuple[tuple[str, Fault], ...] = (
    (r"out of memory|std::bad_alloc|failed to allocate memory|cannot allocate memory", "memory"),
    (r"no cuda gpus are available|no nvidia driver|driver version is insufficient|not compiled with cuda", "machine"),
    (r"CUDA error|CUDA failure|cuDNN error|CUBLAS_STATUS|illegal memory access|device-side assert", "device"),
    (r"AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|NO_SUCH_BUCKET)", "machine"),
    (r"AWS Error (NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIME\w*|THROTTL\w*)",
     "transient"),
    (r"HTTP (status|response code is) ?(408|429|500|502|503|504)|curlCode: (5|6|7|28|35|52|55|56)\b", "transient"),
    (r"connection (was )?(reset|refused|aborted|closed)|temporarily unavailable|temporary failure in", "transient"),
)  # fmt: skip
"""What errors of the system's and of native libraries say, in any letters."""

_BUGS = (TypeError, LookupError, AttributeError, NameError, AssertionError, NotImplementedError, RecursionError)

LOST = ("crashed", "out of memory", "timed out")
"""How the kinds of error begin that are put down for a step whose attempts all ended without a result."""


def fault_of(e: BaseException) -> Fault:
    """Say whose fault an error is; where nothing speaks for another, the item's."""
    declared = next((fault for fault in _FAULTS if fault == getattr(e, "fault", None)), None)
    if declared is not None:
        return declared
    if isinstance(e, StoreError):
        return "transient" if e.__cause__ is not None and fault_of(e.__cause__) == "transient" else "machine"
    if isinstance(e, MemoryError):
        return "memory"
    if isinstance(e, ImportError):
        return "machine"
    for cls in type(e).__mro__:
        if cls.__name__ in _NAMES:
            return _NAMES[cls.__name__]
    if isinstance(e, OSError) and e.errno in _ERRNO:
        return _ERRNO[e.errno]
    if isinstance(e, (ConnectionError, TimeoutError)):
        return "transient"
    if isinstance(getattr(e, "code", None), str):  # a stable code says what is wrong with the item
        return "item"
    if isinstance(e, (OSError, RuntimeError)) or type(e).__module__.split(".")[0] == "onnxruntime":
        for words, fault in _WORDS:
            if re.search(words, str(e), re.IGNORECASE):
                return fault
    return "bug" if isinstance(e, _BUGS) and not isinstance(e, UnicodeError) else "item"


def is_lost(error: str) -> bool:
    """Say whether a kind of error means that no attempt at the step came to an end."""
    return error.startswith(LOST)
