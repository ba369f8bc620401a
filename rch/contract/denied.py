"""What the gate refuses by name, each with its reason (spec section 6).

The counterpart of the table of allowed flags in `rch.contract.policy`. A flag that stands
in neither is refused as unknown; these rows only make the refusal say why.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Denied:
    """A flag that is refused with its own reason; `takes` says that a value follows it."""

    why: str
    takes: bool = True


_OWNED = "the worker owns this place"
_SIGNING = "the gate never signs, provisions or handles keys"
_LICENCE = "the gate does not set up a machine"
_DOWNLOAD = "the gate downloads and installs nothing"
_EXPORT = "the gate never exports or publishes"
_TRUST = "package trust is not for an invocation to change"
_INPUT = "it brings compiler settings from outside the project"
_TOOLCHAIN = "the toolchain is chosen by [toolchain]"
_TARGET = "a target is built through its scheme"
_QUERY = "it builds and tests nothing"
_PLACE = "output and search paths belong to the worker"
_SCOPE = "it is no part of what this gate runs"


def _denied(why: str, *, values: str = "", bare: str = "") -> dict[str, Denied]:
    rows = {name: Denied(why) for name in values.split()}
    return rows | {name: Denied(why, takes=False) for name in bare.split()}


XCODEBUILD_DENIED = {
    **_denied(
        _OWNED,
        values="-resultBundlePath -derivedDataPath -clonedSourcePackagesDirPath -packageCachePath"
        " -testProductsPath -xctestrun -resultStreamPath -collect-test-diagnostics",
    ),
    **_denied(
        _SIGNING,
        values="-authenticationKeyPath -authenticationKeyID -authenticationKeyIssuerID",
        bare="-allowProvisioningUpdates -allowProvisioningDeviceRegistration",
    ),
    **_denied(_LICENCE, values="-license", bare="-runFirstLaunch -checkFirstLaunchStatus"),
    **_denied(
        _DOWNLOAD,
        values="-downloadPlatform -downloadComponent -importPlatform -importComponent -deleteComponent"
        " -exportComponent -architectureVariant -buildVersion",
        bare="-downloadAllPlatforms -prepareDeviceSupport",
    ),
    **_denied(
        _EXPORT,
        values="-archivePath -exportPath -exportOptionsPlist -exportLanguage -localizationPath",
        bare="-exportArchive -exportNotarizedApp -exportLocalizations -importLocalizations"
        " -create-xcframework",
    ),
    **_denied(
        _TRUST,
        values="-packageAuthorizationProvider -defaultPackageRegistryURL -packageFingerprintPolicy"
        " -packageSigningEntityPolicy -packageDependencySCMToURLTransformation",
        bare="-skipPackageSignatureValidation -skipPackageUpdates",
    ),
    **_denied(_INPUT, values="-xcconfig"),
    **_denied(_TOOLCHAIN, values="-toolchain"),
    **_denied(_TARGET, values="-target", bare="-alltargets"),
    **_denied(
        _QUERY,
        values="-find-executable -find-library -find",
        bare="-dry-run -n -list -version -showsdks -showBuildSettings -showBuildSettingsForIndex"
        " -showdestinations -showTestPlans -resolvePackageDependencies -enumerate-tests"
        " -json -usage -help -h",
    ),
    **_denied(
        _SCOPE,
        values="-destination-timeout -only-test-configuration -skip-test-configuration"
        " -resultBundleVersion -maximum-concurrent-test-device-destinations"
        " -maximum-concurrent-test-simulator-destinations -test-repetition-relaunch-enabled",
        bare="-run-tests-until-failure -disable-concurrent-destination-testing -parallelizeTargets",
    ),
}

SWIFT_DENIED = {
    **_denied(_OWNED, values="--scratch-path --build-path --xunit-output"),
    **_denied(
        _PLACE,
        values="--package-path --cache-path --config-path --security-path --chdir -C --pkg-config-path"
        " --manifest-cache --attachments-path --event-stream-output-path --coverage-path",
    ),
    **_denied(
        _INPUT,
        values="-Xcc -Xcxx -Xswiftc -Xlinker -Xbuild-tools-swiftc -Xxcbuild --traits",
        bare="--static-swift-stdlib --no-static-swift-stdlib --enable-all-traits --disable-default-traits",
    ),
    **_denied(
        _TOOLCHAIN,
        values="--toolchain --triple --sdk --swift-sdk --swift-sdks-path --experimental-swift-sdk"
        " --arch --destination --build-system",
    ),
    **_denied(
        _TRUST,
        values="--netrc-file --resolver-fingerprint-checking --resolver-signing-entity-checking"
        " --default-registry-url --signing-entity-checking",
        bare="--disable-sandbox --enable-netrc --disable-netrc --enable-keychain --disable-keychain"
        " --disable-signature-validation --enable-signature-validation --replace-scm-with-registry"
        " --use-registry-identity-for-scm --skip-update",
    ),
    **_denied(
        _QUERY,
        bare="--show-bin-path --show-coverage-path --show-codecov-path --list-tests -l --skip-build"
        " --print-manifest-job-graph --print-pif-manifest-graph --version --help -h -help",
    ),
}

XCODEBUILD_DENIED_ACTIONS = frozenset(
    {
        *("archive", "clean", "install", "analyze", "docbuild", "build-for-testing"),
        *("test-without-building", "installsrc", "installhdrs", "installapi"),
    }
)
SWIFT_DENIED_ACTIONS = frozenset({"run", "package", "repl", "sdk", "sdks", "help", "package-registry"})

WORKER_OWNED_ENVIRONMENT = frozenset({"DEVELOPER_DIR", "NSUnbufferedIO", "TMPDIR"})
"""Variables that only the worker sets."""

WORKER_OWNED = frozenset(
    name for table in (XCODEBUILD_DENIED, SWIFT_DENIED) for name, row in table.items() if row.why == _OWNED
)
"""Flags that only the worker sets; no accepted argv holds one."""
