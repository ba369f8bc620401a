"""The command line of `xcodebuild`, as far as the stand-in knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_TAKES_ONE = frozenset(
    {
        "-project", "-workspace", "-scheme", "-target", "-configuration", "-sdk", "-arch", "-destination",
        "-destination-timeout", "-derivedDataPath", "-resultBundlePath", "-resultStreamPath", "-testPlan",
        "-clonedSourcePackagesDirPath", "-packageCachePath", "-parallel-testing-enabled",
        "-test-iterations", "-parallel-testing-worker-count", "-maximum-parallel-testing-workers", "-jobs",
        "-testLanguage", "-testRegion", "-test-timeouts-enabled", "-default-test-execution-time-allowance",
        "-maximum-test-execution-time-allowance", "-enableCodeCoverage", "-enableAddressSanitizer",
        "-enableThreadSanitizer", "-enableUndefinedBehaviorSanitizer", "-collect-test-diagnostics",
        "-scmProvider", "-only-testing", "-skip-testing", "-test-repetition-relaunch-enabled",
    }
)  # fmt: skip
_TAKES_NONE = frozenset(
    {
        "-quiet", "-verbose", "-json", "-version", "-list", "-showsdks", "-showBuildSettings",
        "-showTestPlans", "-showdestinations", "-resolvePackageDependencies", "-retry-tests-on-failure",
        "-run-tests-until-failure", "-disableAutomaticPackageResolution", "-checkFirstLaunchStatus",
        "-onlyUsePackageVersionsFromResolvedFile", "-skipMacroValidation", "-skipPackagePluginValidation",
        "-skipPackageUpdates", "-parallelizeTargets", "-hideShellScriptEnvironment",
    }
)  # fmt: skip
_ACTIONS = frozenset({"build", "test", "clean", "build-for-testing", "test-without-building", "archive"})

USAGE_EXIT = 64


class UsageError(ValueError):
    """A command line that the tool refuses with exit code 64."""


@dataclass(slots=True)
class Request:
    """What was asked. Switches are kept by their whole name, settings as `KEY=VALUE` pairs."""

    argv: tuple[str, ...]
    actions: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    switches: set[str] = field(default_factory=set)
    only: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> bool:
        """Whether `-json` was asked for."""
        return "-json" in self.switches

    @property
    def fixed_packages(self) -> bool:
        """Whether only the versions of `Package.resolved` may be used."""
        fixed = {"-onlyUsePackageVersionsFromResolvedFile", "-disableAutomaticPackageResolution"}
        return bool(fixed & self.switches)

    def yes(self, flag: str) -> bool | None:
        """A flag whose value is YES or NO; None where it was not given."""
        value = self.values.get(flag)
        return None if value is None else value.upper() == "YES"


def parse(argv: Sequence[str]) -> Request:
    """Read a command line; `UsageError` with the tool's words for what it does not know."""
    request = Request(tuple(argv))
    words = iter(argv)
    for word in words:
        flag, value = _split(word)
        if flag in _TAKES_ONE:
            value = next(words, None) if value is None else value
            if value is None:
                raise UsageError(f"option '{flag}' requires at least 1 argument")
            _keep(request, flag, value)
        elif word in _TAKES_NONE:
            request.switches.add(word)
        elif word in _ACTIONS:
            request.actions.append(word)
        elif "=" in word:
            name, _, setting = word.partition("=")
            request.settings[name] = setting
        elif word.startswith("-"):
            raise UsageError(f"invalid option '{word}'")
        else:
            raise UsageError(f"Unknown build action '{word}'.")
    iterations = request.values.get("-test-iterations", "1")
    if not iterations.isdigit() or not 1 <= int(iterations) <= 1000:
        raise UsageError(f"invalid value '{iterations}' for option '-test-iterations'")
    return request


def _split(word: str) -> tuple[str, str | None]:
    """`-only-testing:X` and `-only-testing=X` as flag and value."""
    for flag in ("-only-testing", "-skip-testing"):
        if word.startswith((f"{flag}:", f"{flag}=")):
            return flag, word[len(flag) + 1 :]
    return word, None


def _keep(request: Request, flag: str, value: str) -> None:
    if flag == "-only-testing":
        request.only.append(value)
    elif flag == "-skip-testing":
        request.skip.append(value)
    else:
        request.values[flag] = value
