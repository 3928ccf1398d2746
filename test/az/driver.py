"""Runs many command lines of the Azure CLI and pays for its start once.

The modules are imported here; each line then runs in a child of fork, as
`python -m azure.cli` runs it: the package's own __main__, unmodified, with its
own sys.argv, descriptors and process. Requests and answers are lines of JSON:

    {"id": 1, "args": ["group", "list"], "cwd": "/folder"}
    {"id": 1, "code": 0, "out": "[]\n", "err": ""}

{"id": 2, "known": ["group list", ...]} answers which of the commands az has, and
with which options.
"""

import gc
import json
import os
import runpy
import sys
import tempfile

from azure.cli import core


def warm(commands):
    """Loads the modules of these commands; the names of those that az has, with their options."""
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
        arguments = loader.command_table[command].arguments.values()
        found[command] = sorted(str(o) for a in arguments for o in a.options.get("options_list") or [] if str(o).startswith("-"))
    return found


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
            answer["known"] = warm(request["known"])
            gc.freeze()
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
