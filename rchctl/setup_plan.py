"""What a set-up found and would do, as data and as people read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rchctl.console import Console
from rchctl.render import size
from rchctl.terminal import one_line


def plan_of(
    facts: dict[str, Any], *, name: str, key: Path, line: str, made: bool, entry: bool
) -> list[dict[str, Any]]:
    """The steps in order: `state` is `todo`, `done` (nothing is left of it) or `blocked`."""
    build, there = facts["build"], facts["build"] in facts["installed"]
    steps = [
        _step("key", f"the key {key}" if made else f"make the key {key}, without a passphrase", done=made)
    ]
    if there:
        steps.append(_step("program", f"rch-worker {build} is installed", done=True))
    elif facts.get("python"):
        text = f"install rch-worker {build} below {facts['base']}, with {facts['python']}"
        steps.append(_step("program", text))
        text = "libraries from this machine where they fit, else by pip from the worker's own index"
        steps.append(_step("libraries", text))
    else:
        text = "no Python 3.11 or newer with venv: install one, or say where it is: --python PATH"
        steps.append({"step": "program", "state": "blocked", "text": text})
    steps.append(_authorized(facts, line))
    before = facts.get("current")
    text = f"let current lead to it, before {before}" if before else "let current lead to it"
    steps.append(_step("switch", "current leads to it" if before == build else text, done=before == build))
    steps.append(_step("try", "probe it over the key, and see that this opens nothing else"))
    text = f"write {name} into workers.toml, with both pins" if entry else f"workers.toml has {name}"
    steps.append(_step("inventory", text, done=not entry))
    return steps


def _authorized(facts: dict[str, Any], line: str) -> dict[str, Any]:
    found = facts.get("line")
    if facts["key"] == "foreign":
        text = f"authorized_keys has this key with other rights, take that out: {found}"
        return {"step": "authorized_keys", "state": "blocked", "text": text}
    if facts["key"] == "absent":
        return _step("authorized_keys", f"add to authorized_keys: {line}")
    if str(found).startswith(line.partition('" ')[0] + '"'):
        return _step("authorized_keys", "authorized_keys lets the key run it", done=True)
    return _step("authorized_keys", f"in authorized_keys, in place of {found}: {line}")


def _step(step: str, text: str, *, done: bool = False) -> dict[str, Any]:
    return {"step": step, "state": "done" if done else "todo", "text": text}


def plan_text(facts: dict[str, Any], plan: list[dict[str, Any]], console: Console) -> str:
    """Facts, then a line for each step."""
    pythons = ", ".join(
        f"{'.'.join(map(str, each['version']))} ({each['path']}{'' if each['venv'] else ', no venv'})"
        for each in facts["pythons"]
    )
    tools = [str(facts[tool]) for tool in ("xcode", "swift") if facts.get(tool)]
    rows = [
        ("machine", f"{facts['hostname']}: {facts['release']}, {facts['machine']}"),
        ("python", pythons or "none that runs"),
        ("free disk", size(int(facts["disk_free_bytes"]))),
        ("tools", ", ".join(tools) or "none in PATH"),
        ("installed", ", ".join(facts["installed"]) or "nothing"),
    ]
    lines = [f"  {name:<10} {one_line(value)}" for name, value in rows]
    marks = {"done": ("done", "good"), "todo": ("todo", "warn"), "blocked": ("blocked", "bad")}
    lines.append("")
    for each in plan:
        word, style = marks[each["state"]]
        lines.append(f"  {console.style(f'{word:<8}', style)} {one_line(each['text'])}")
    return "\n".join(lines) + "\n"
