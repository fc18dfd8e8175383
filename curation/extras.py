"""Which extra of the distribution brings a package that is not installed, read from the distribution's own metadata.

What the core does not need is imported where it is used; `lpm` turns the ImportError into the sentence made here.
"""

from __future__ import annotations

import re
from importlib import metadata

_DISTRIBUTION = "openlpm"

_DISTRIBUTION_OF = {"cv2": "opencv-contrib-python", "dlib": "dlib-bin", "sklearn": "scikit-learn"}
"""Of the packages whose import has another name than their distribution."""

_NO_DISPLAY = (
    "; without a display's libraries: pip uninstall opencv-contrib-python, pip install opencv-contrib-python-headless"
)


def absence(error: BaseException, prefer: str | None = None) -> str | None:
    """Return a sentence about the package of an extra for want of which something failed; None if it was another cause.

    `prefer` is the extra to name where several bring the package.
    """
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, ImportError) and _extras(_package(cause))):
        cause = cause.__cause__
    if not isinstance(cause, ImportError):
        return None
    package = _package(cause)
    if isinstance(cause, ModuleNotFoundError):
        return not_installed(package, prefer)
    way_out = _NO_DISPLAY if package == "cv2" else ""
    return f"the package {package!r} is installed, but cannot be loaded: {cause}{way_out}"


def not_installed(package: str, prefer: str | None = None) -> str:
    """Say which extra brings a package, by its import name."""
    extras = _extras(package)
    extra = prefer if prefer in extras else next(iter(extras), "all")
    return f'the package {package!r} is not installed: pip install "{_DISTRIBUTION}[{extra}]"'


def _package(error: ImportError) -> str:
    return (error.name or "").partition(".")[0]


def _extras(package: str) -> list[str]:
    """Return the extras that require a package, in the order of the metadata; none if the core requires it."""
    wanted, found = _plain(_DISTRIBUTION_OF.get(package, package)), []
    for requirement in metadata.requires(_DISTRIBUTION) or ():
        name, _, marker = requirement.partition(";")
        if _plain(re.split(r"[^\w.-]", name.strip())[0]) == wanted:
            found += re.findall(r'extra == "([\w-]+)"', marker)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
