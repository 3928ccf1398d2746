#!/bin/bash
# Names the sentences of a page (docs/troubleshooting.md) that no test has heard
# from a program, by what the tests wrote into these logs; fails if there is one.
set -uo pipefail
page=$1; shift
ids=$(sed -nE 's/^> .* <!-- ([A-Za-z0-9._-]+) -->$/\1/p' "$page" | sort)
[ -n "$ids" ] || { echo "$page has no sentences"; exit 1; }
heard=$(cat "$@" | grep -oE 'heard on the page: [A-Za-z0-9._-]+$' | sed 's/.* //' | sort -u)
unheard=$(comm -23 <(echo "$ids") <(echo "$heard"))
[ -z "$unheard" ] || {
  echo "no test has heard these sentences of $page from a program: "$unheard
  echo "Bring each about in a test, and hand what was said to handbooktest.Said(t, SAID, ID), or take it off the page."
  exit 1
}
echo "$(wc -l <<<"$ids") sentences of $page, each heard from a program"
