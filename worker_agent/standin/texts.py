"""What the tools say when they refuse, fail to build, or lose their test runner.

`{…}` stands for the names of the call. Which of these words are recorded and which only
documented is told in docs/simulation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Words on standard error, and the exit code."""

    text: str
    exit_code: int


REFUSALS: Mapping[str, Refusal] = {
    "no-destination": Refusal(
        "xcodebuild: error: Unable to find a device matching the provided destination specifier:\n"
        "\t\t{{ {destination} }}\n\n"
        "\tThe requested device could not be found because no available devices matched the request.\n\n"
        '\tAvailable destinations for the "{scheme}" scheme:\n{available}\n',
        70,
    ),
    "packages": Refusal(
        "xcodebuild: error: Could not resolve package dependencies:\n"
        "  Dependencies could not be resolved because no versions of 'wax' match the requirement "
        "4.1.0..<5.0.0 and root depends on 'wax' 4.1.0..<5.0.0.\n\n",
        74,
    ),
    "outdated-resolved": Refusal(
        "xcodebuild: error: Could not resolve package dependencies:\n"
        "  an out-of-date resolved file was detected at {resolved}, which is not allowed when automatic "
        "dependency resolution is disabled; please make sure to update the file to reflect the changes "
        "in dependencies.\n\n",
        74,
    ),
    "license": Refusal(
        "\nYou have not agreed to the Xcode license agreements. Please run 'sudo xcodebuild -license' "
        "from within a Terminal window to review and agree to the Xcode and Apple SDKs license.\n",
        69,
    ),
    "no-scheme": Refusal(
        'xcodebuild: error: The {kind} named "{container}" does not contain a scheme named "{scheme}". '
        'The "-list" option can be used to find the names of the schemes in the {kind}.\n',
        65,
    ),
    "no-target": Refusal(
        "xcodebuild: error: Failed to build {kind} {container} with scheme {scheme}.: "
        "There is no target named “{target}”.\n",
        65,
    ),
    "no-test-action": Refusal(
        "xcodebuild: error: Scheme {scheme} is not currently configured for the test action.\n", 66
    ),
    "no-project": Refusal("xcodebuild: error: '{path}' does not exist.\n", 66),
    "no-project-here": Refusal(
        "xcodebuild: error: The directory {folder} does not contain an Xcode project, workspace or "
        "package.\n",
        66,
    ),
    "unreadable-project": Refusal(
        "xcodebuild: error: Unable to read project '{container}'.\n"
        "\tReason: The project '{container}' is damaged and cannot be opened: {why}\n",
        74,
    ),
    "existing-bundle": Refusal('xcodebuild: error: Existing file at -resultBundlePath "{bundle}"\n', 64),
    "no-concrete-device": Refusal(
        "xcodebuild: error: Failed to build {kind} {container} with scheme {scheme}.: Cannot test target "
        "“{target}” on “Any iOS Simulator Device”: Tests must be run on a concrete device\n",
        70,
    ),
}


@dataclass(frozen=True, slots=True)
class BrokenBuild:
    """A build that fails elsewhere than in a source file: lines, and the command that failed."""

    lines: tuple[str, ...]
    command: str


_SCRIPT_FILE = (
    "Build/Intermediates.noindex/{project}.build/Debug-iphonesimulator/{project}.build/"
    "Script-7A11C0DE00000000000000F1.sh"
)
_SCRIPT = (
    "PhaseScriptExecution Trim\\ Wick {derived}/"
    + _SCRIPT_FILE
    + " (in target '{target}' from project '{project}')"
)
_CYCLE = (
    "error: Cycle inside {target}; building could produce unreliable results. This usually can be resolved "
    "by moving the shell script phase so that it runs before the build phase that depends on its outputs."
)
_LOCKED = (
    'error: unable to attach DB: error: accessing build database "{derived}/Build/Intermediates.noindex/'
    'XCBuildData/build.db": database is locked Possibly there are two concurrent builds running in the '
    "same filesystem location."
)

BROKEN_BUILDS: Mapping[str, BrokenBuild] = {
    "script-phase": BrokenBuild(
        (
            _SCRIPT,
            "    cd {root}",
            "    /bin/sh -c {derived}/" + _SCRIPT_FILE,
            "no shears",
            "Command PhaseScriptExecution failed with a nonzero exit code",
            "",
        ),
        _SCRIPT,
    ),
    "dependency-graph": BrokenBuild(
        (
            _CYCLE,
            "",
        ),
        "ComputeTargetDependencyGraph",
    ),
    "locked-database": BrokenBuild(
        (
            _LOCKED,
            "",
        ),
        "Building project {project} with scheme {scheme}",
    ),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A test runner that was lost.

    `before` tells whether the tests ran before; `notes` are lines of the tool's own log, and
    `message` stands in the block `Testing failed:`.
    """

    before: bool
    notes: tuple[str, ...]
    message: str


_OBSERVER = "Error Domain=IDETestOperationsObserverErrorDomain Code="
_NEVER = "Test runner never began executing tests after launching."
_BOOT = "Unable to boot device in current state: Shutdown"
_EARLY = "Early unexpected exit, operation never finished bootstrapping - no restart will be attempted"
_AX = (
    "Timed out registering for testing event accessibility notifications. If you believe this error "
    "represents a bug, please attach the log file at {derived}/Logs/Test/Session-{target}.log"
)
_OPEN = 'The request to open "dev.rch.{target}.xctrunner" failed.'

INFRASTRUCTURE: Mapping[str, Trouble] = {
    "early-exit": Trouble(
        before=True,
        notes=(
            'Error Domain=IDETestOperationsObserverErrorDomain Code=5 "' + _EARLY + '" '
            "UserInfo={{NSLocalizedDescription=" + _EARLY + "}}",
        ),
        message=_EARLY,
    ),
    "timed-out-registering": Trouble(
        before=True,
        notes=('Error Domain=IDETestOperationsObserverErrorDomain Code=13 "' + _AX + '"',),
        message=_AX,
    ),
    "failed-to-open": Trouble(
        before=True,
        notes=(
            " iOSSimulator: {udid}: Failed to launch app with identifier: dev.rch.{target}.xctrunner and "
            "options: {{ }} (error = Error Domain=FBSOpenApplicationServiceErrorDomain Code=1 "
            '"' + _OPEN + '")',
        ),
        message="Failed to install or launch the test runner. (Underlying Error: " + _OPEN + " The request "
        "was denied by service delegate (SBMainWorkspace).)",
    ),
    "runner-never-started": Trouble(
        before=False,
        notes=(
            "[MT] IDETestOperationsObserverDebug: 120.004 elapsed -- Testing started completed.",
            _OBSERVER + '6 "' + _NEVER + '"',
        ),
        message=_NEVER,
    ),
    "lost-connection": Trouble(
        before=True,
        notes=(
            'Error Domain=IDETestOperationsObserverErrorDomain Code=6 "Lost connection to testmanagerd"',
        ),
        message="Lost connection to testmanagerd. (Underlying Error: The test runner's connection to "
        "testmanagerd was invalidated.)",
    ),
    "no-boot": Trouble(
        before=False,
        notes=('Error Domain=com.apple.CoreSimulator.SimError Code=405 "' + _BOOT + '"',),
        message="Unable to boot the Simulator. (Underlying Error: " + _BOOT + ")",
    ),
}
