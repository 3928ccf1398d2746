#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No library may have more than 400 lines of code of its own (without comments
# and blank lines), nor the code that they share.
set -eu
status=0
for d in nss pam principals common; do
	lines=$(for f in "$d"/*.c; do "${CC:-gcc}" -fpreprocessed -dD -E -P "$f" 2>/dev/null; done | grep -cv '^[[:space:]]*$')
	if [ "$lines" -gt 400 ]; then
		echo "$d: $lines lines of code, the limit is 400" >&2
		status=1
	fi
	sizes="${sizes:-}$d $lines  "
done
echo "lines of code: $sizes"
exit "$status"
