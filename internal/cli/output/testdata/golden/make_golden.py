"""Writes the golden files from cases.json with knack's formatters; README.md says how and why."""

import json
from collections import OrderedDict

import jmespath
import yaml
from knack import output
from knack.util import CommandResultItem


def result_of(case):
    result = case["document"]
    if "query" in case:
        result = jmespath.compile(case["query"]).search(result, jmespath.Options(OrderedDict))
    item = CommandResultItem(result)
    item.is_query_active = "query" in case
    if "columns" in case:
        columns = "{" + ", ".join(title + ":" + path for title, path in case["columns"]) + "}"
        item.table_transformer = ("[]." if isinstance(result, list) else "") + columns
    return item


def is_sorted(value):
    return json.dumps(value) == json.dumps(value, sort_keys=True)


def formats(case, item):
    yield "tsv", output.format_tsv
    if case.get("table", True):
        yield "table", output.format_table
    if is_sorted(item.result):
        yield "json", output.format_json
        if case.get("yaml"):
            yield "yaml", lambda i: yaml.safe_dump(
                json.loads(json.dumps(i.result)), default_flow_style=False, allow_unicode=True, width=10**6)


def main():
    with open("cases.json", encoding="utf-8") as f:
        cases = json.load(f)
    for case in cases:
        item = result_of(case)
        for name, formatter in formats(case, item):
            # knack's invoke prints nothing at all for None.
            text = "" if item.result is None else formatter(item)
            with open(f"{case['name']}.{name}", "w", encoding="utf-8", newline="") as f:
                f.write(text)


main()
