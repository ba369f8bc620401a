"""Where Apple's tools are looked for: on a Mac at their own places, in a simulation elsewhere.

A simulated worker hands other places to the probes (`worker_agent.standin.layout.apple_tools`);
nothing else makes them look there, and then they look nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AppleTools:
    """Absolute paths. `root` is the folder that holds all of it, and an Xcode outside does not count.

    `xcodes` are patterns of Xcode's bundle, in which `~` is HOME.

    `system_version` is the property list that names a macOS, and `arch` its architecture, where
    the machine itself is not to be asked.
    """

    root: str
    xcrun: str
    xcode_select: str
    xcodes: tuple[str, ...]
    system_version: str
    arch: str
