"""Runs many command lines of the Azure CLI and pays for its start once.

The modules are imported here; each line then runs in a child of fork, as
`python -m azure.cli` runs it: the package's own __main__, unmodified, with its
own sys.argv, descriptors and process. Requests and answers are lines of JSON:

    {"id": 1, "args": ["group", "list"], "cwd": "/folder"}
    {"id": 1, "code": 0, "out": "[]\n", "err": ""}

{"id": 3, "run": ["/bin/sally", "group", "list"]} runs another program where this one is.
{"id": 2, "known": ["group list", ...]} answers which of the commands az has, and
which parameters each takes: {"options": ["--name", "-n"], "required": true}.
"""

import gc
import hashlib
import json
import os
import runpy
import subprocess
import sys
import tempfile

from azure.cli import core


def warm(commands):
    """Loads the modules of these commands; the names of those that az has, with their parameters."""
    with open(os.path.join(os.path.dirname(core.__file__), "commandIndex.latest.json"), encoding="utf-8") as index:
        groups = json.load(index)["commandIndex"]
    cli = core.get_default_cli()
    invocation = cli.invocation_cls(cli_ctx=cli, parser_cls=cli.parser_cls, commands_loader_cls=cli.commands_loader_cls, help_cls=cli.help_cls)
    cli.invocation = invocation
    loader = invocation.commands_loader
    found = {}
    for command in commands:
        words = command.split()
        if words[0] not in groups or command not in loader.load_command_table(words):
            continue
        invocation.data["command_string"] = loader.command_name = command
        loader.load_arguments(command)
        found[command] = parameters(command, loader.command_table[command].arguments.values())
    return found


def known(commands):
    """warm, with what it found before: to load every command takes as long as many rows."""
    path = os.path.join(sys.prefix, "commands.json")  # one folder for each version of az
    with open(__file__, "rb") as source:
        stamp = hashlib.sha256(source.read()).hexdigest()
    kept = {"stamp": stamp, "commands": {}}
    try:
        with open(path, encoding="utf-8") as file:
            read = json.load(file)
        kept = read if read["stamp"] == stamp else kept
    except (OSError, ValueError, KeyError):
        pass
    fresh = [c for c in commands if c not in kept["commands"]]
    found = warm(fresh or ["account show", "ad user show", "group show", "rest", "role assignment list", "vm show", "vm extension image list", "vmss show"])
    if fresh:
        kept["commands"].update({c: found.get(c) for c in fresh})
        with tempfile.NamedTemporaryFile("w", dir=sys.prefix, delete=False, encoding="utf-8") as file:
            json.dump(kept, file)
        os.replace(file.name, path)
    return {c: kept["commands"][c] for c in commands if kept["commands"][c] is not None}


def parameters(command, arguments):
    """What a command takes, but for the global ones; --ids as az adds it, where it can stand for a name."""
    settings = [a.type.settings for a in arguments if getattr(a.type.settings.get("action"), "__name__", "") != "IgnoreAction"]
    taken = [{"options": [str(o) for o in s.get("options_list") or [] if str(o).startswith("-")], "required": bool(s.get("required"))} for s in settings]
    if {"name", "resource_name"} & {s.get("id_part") for s in settings} and command.split()[-1] != "create":
        taken.append({"options": ["--ids"], "required": False})
    return [t for t in taken if t["options"]]


def run(request, out, err):
    """In the child: never returns."""
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if request.get("cwd"):
            os.chdir(request["cwd"])
        sys.argv = ["az"] + request["args"]
        try:
            runpy.run_module("azure.cli", run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main():
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in lines:
        request = json.loads(line)
        answer = {"id": request["id"]}
        if "known" in request:
            answer["known"] = known(request["known"])
            gc.freeze()
        elif "run" in request:
            done = subprocess.run(request["run"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            answer.update(code=done.returncode, out=done.stdout.decode("utf-8", "replace"), err=done.stderr.decode("utf-8", "replace"))
        else:
            with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
                child = os.fork()
                if child == 0:
                    run(request, out.fileno(), err.fileno())
                _, status = os.waitpid(child, 0)
                answer["code"] = os.waitstatus_to_exitcode(status)
                for name, file in (("out", out), ("err", err)):
                    file.seek(0)
                    answer[name] = file.read().decode("utf-8", "replace")
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
