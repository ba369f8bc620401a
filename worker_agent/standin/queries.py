"""What `xcodebuild` answers without building anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker_agent.standin.arguments import Request
from worker_agent.standin.building import order
from worker_agent.standin.context import Context
from worker_agent.standin.devices import destinations
from worker_agent.standin.facts import Sdk
from worker_agent.standin.project import Container
from worker_agent.standin.session import container_path, open_container, refuse, scenario_for

USAGE = """Usage: xcodebuild [-project <projectname>] [-scheme <schemeName>] [-destination <specifier>]... \
[-configuration <configurationname>] [<buildsetting>=<value>]... [<buildaction>]...
       xcodebuild -version [-sdk [<sdkfullpath>|<sdkname>] [-json] [<infoitem>] ]
       xcodebuild -list [[-project <projectname>]|[-workspace <workspacename>]] [-json]
       xcodebuild -showsdks [-json]
"""


def answer(request: Request, context: Context) -> int | None:
    """Answer a question; the exit code, or None where the command line asks none."""
    asked: tuple[tuple[str, Callable[[Request, Context], int]], ...] = (
        ("-checkFirstLaunchStatus", lambda _request, _context: 0),
        ("-showsdks", _sdks),
        ("-list", _list),
        ("-showBuildSettings", _settings),
        ("-showTestPlans", _plans),
        ("-showdestinations", _destinations),
        ("-resolvePackageDependencies", _resolve),
    )
    for switch, reply in asked:
        if switch in request.switches:
            return reply(request, context)
    return None


def _sdk(sdk: Sdk, context: Context) -> dict[str, Any]:
    platform = context.developer_dir / "Platforms" / f"{sdk.folder}.platform"
    plain = sdk.product.removeprefix("Simulator - ")
    return {
        "buildID": f"{sdk.build}-0000-0000-0000-000000000000",
        "canonicalName": f"{sdk.platform}{sdk.version}",
        "displayName": f"{sdk.product} {sdk.version}",
        "isBaseSdk": True,
        "platform": sdk.platform,
        "platformPath": str(platform),
        "platformVersion": sdk.version,
        "productBuildVersion": sdk.build,
        "productCopyright": "1983-2025 Apple Inc.",
        "productName": "iPhone OS" if plain == "iOS" else plain,
        "productVersion": sdk.version,
        "sdkPath": str(platform / "Developer/SDKs" / f"{sdk.folder}{sdk.version}.sdk"),
        "sdkVersion": sdk.version,
    }


def _sdks(request: Request, context: Context) -> int:
    if request.json:
        context.output.document([_sdk(sdk, context) for sdk in context.release.sdks])
        return 0
    for sdk in context.release.sdks:
        context.output.say(f"{sdk.product} SDKs:\n")
        context.output.say(f"\t{sdk.product} {sdk.version}        \t-sdk {sdk.platform}{sdk.version}\n\n")
    return 0


def _opened(request: Request, context: Context) -> Container:
    path = container_path(request, context)
    scenario = scenario_for(context, path.parent, "query")
    if scenario.refusal == "license":
        raise refuse("license")
    return open_container(path)


def _list(request: Request, context: Context) -> int:
    container = _opened(request, context)
    told: dict[str, Any] = {"name": container.name, "schemes": sorted(container.schemes)}
    if container.kind == "project":
        told |= {
            "configurations": list(container.configurations),
            "targets": [target.name for target in container.targets],
        }
    if request.json:
        context.output.document({container.kind: told})
        return 0
    blocks = [("Targets", "targets"), ("Build Configurations", "configurations"), ("Schemes", "schemes")]
    context.output.say(f'Information about {container.kind} "{container.name}":\n')
    for title, key in blocks:
        if key in told:
            context.output.say(f"    {title}:\n" + "".join(f"        {one}\n" for one in told[key]) + "\n")
    return 0


def _settings(request: Request, context: Context) -> int:
    container = _opened(request, context)
    scheme = container.schemes.get(request.values.get("-scheme", ""))
    if scheme is None:
        named = request.values.get("-scheme", "")
        raise refuse("no-scheme", kind=container.kind, container=container.name, scheme=named)
    configuration = request.values.get("-configuration", "Debug")
    rows = [
        {
            "action": "build",
            "buildSettings": {
                "ARCHS": "arm64",
                "CONFIGURATION": configuration,
                "PRODUCT_NAME": target.name,
                "PROJECT_DIR": str(container.root),
                "PROJECT_NAME": target.project,
                "SRCROOT": str(container.root),
                "TARGET_NAME": target.name,
                "XCODE_PRODUCT_BUILD_VERSION": context.release.build,
            },
            "target": target.name,
        }
        for target in order(container, scheme, tests=False)
    ]
    if request.json:
        context.output.document(rows)
        return 0
    for row in rows:
        context.output.say(f"Build settings for action build and target {row['target']}:\n")
        settings = row["buildSettings"]
        assert isinstance(settings, dict)  # noqa: S101  (made above)
        context.output.say("".join(f"    {key} = {value}\n" for key, value in settings.items()) + "\n")
    return 0


def _plans(request: Request, context: Context) -> int:
    _opened(request, context)
    scheme = request.values.get("-scheme", "")
    if request.json:
        context.output.document({"testPlans": []})
    else:
        context.output.say(f'Scheme "{scheme}" has no associated test plans.\n')
    return 0


def _destinations(request: Request, context: Context) -> int:
    _opened(request, context)
    scheme = request.values.get("-scheme", "")
    context.output.say(f'\n\n\tAvailable destinations for the "{scheme}" scheme:\n')
    for one in destinations(context.root):
        version = f", OS:{one.os_version}" if one.simulator else ", arch:arm64"
        context.output.say(f"\t\t{{ platform:{one.platform}{version}, id:{one.udid}, name:{one.name} }}\n")
    return 0


def _resolve(request: Request, context: Context) -> int:
    container = _opened(request, context)
    scenario = scenario_for(context, container.root, "resolve")
    if scenario.refusal == "packages":
        raise refuse("packages")
    if request.fixed_packages and any(package.version is None for package in container.packages):
        raise refuse("outdated-resolved", resolved=str(container.resolved))
    context.output.say("Resolve Package Graph\n\n\nResolved source packages:\n")
    for package in container.packages:
        context.output.say(f"  {package.identity}: {package.location} @ {package.version or '1.0.0'}\n")
    context.output.say("\nresolved source packages: ")
    context.output.say(", ".join(package.identity for package in container.packages) + "\n")
    return 0
