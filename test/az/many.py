"""az, many commands from one start: a line is a command's words as JSON, and the
answer is a line {"code", "out", "err"}. It is what azure/cli/__main__.py does."""
import json, os, sys, tempfile

answers = os.fdopen(os.dup(1), "w")
from azure.cli.core import get_default_cli

for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            code = get_default_cli().invoke(json.loads(line))
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
        texts = []
        for f in (out, err):
            f.seek(0)
            texts.append(f.read().decode())
    print(json.dumps({"code": code or 0, "out": texts[0], "err": texts[1]}), file=answers, flush=True)
