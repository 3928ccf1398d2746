"""Drives a server with the Azure SDK for Python, unmodified.

It reads a JSON document from the first line of standard input, prints a line for each thing that
it has proved, and exits 1 with the first that is not as the SDK's documentation
says. "mode" is what to prove: resources, device or identity.
"""

import json
import sys

import credentials
import resources


def main():
    task = json.loads(sys.stdin.readline())
    modes = {"resources": resources.run, "device": credentials.device, "identity": credentials.managed}
    try:
        modes[task["mode"]](task)
    except AssertionError as failed:
        sys.exit(f"not as documented: {failed}")


main()
