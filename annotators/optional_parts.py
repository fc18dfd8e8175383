"""What is said when a part that is not installed by default is asked for. Costs nothing: one exception."""

from __future__ import annotations


class PartNotInstalledError(ImportError):
    """A part that was asked for is not installed, or cannot be loaded; the message says what to do."""


def of_the_full_set(choice: str, package: str, instead: str, why: object = "") -> PartNotInstalledError:
    """Return the error for a back-end whose package the full set alone holds.

    Args:
        choice: what was asked for, as a setting.
        package: the package that it needs.
        instead: the choice that needs nothing more.
        why: what was found wrong, where more than absence is known.
    """
    found = f" ({why})" if str(why) else ""
    return PartNotInstalledError(
        f"{choice} needs {package}, which is not part of the small set{found}. `make setup-full` makes .venv-full, "
        "which has it: run .venv-full/bin/lpm, or let that stage alone run there (`python: .venv-full` in the "
        f"workflow, docs/install.md); {instead} needs nothing more"
    )
