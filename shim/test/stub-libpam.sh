#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a libpam.so.0 for another architecture that exports what this
# computer's does, name by name and version by version, so that the PAM module is
# really linked there without that architecture's packages. Its functions are
# never called.
#   stub-libpam.sh COMPILER FOLDER
set -eu
cc=$1
out=$2
lib=$(${HOST_CC:-cc} -print-file-name=libpam.so.0)
mkdir -p "$out/include"
ln -sfn /usr/include/security "$out/include/security"
objdump -T "$lib" | awk 'NF > 5 && $(NF-1) ~ /^\(?LIBPAM_/ && $(NF-1) != $NF {gsub(/[()]/, "", $(NF-1)); print $(NF-1), $NF}' | sort -u >"$out/symbols"
[ "$(wc -l <"$out/symbols")" -gt 20 ] || { echo "no symbols of libpam in $lib" >&2; exit 1; }
awk '{print "void " $2 "(void);\nvoid " $2 "(void) {}"}' "$out/symbols" >"$out/stub.c"
awk '{s[$1] = s[$1] $2 "; "} END {for (v in s) print v " { global: " s[v] "};"}' "$out/symbols" >"$out/stub.map"
"$cc" -shared -fPIC -nostdlib -fno-builtin -Wl,-soname,libpam.so.0 -Wl,--version-script="$out/stub.map" -o "$out/libpam.so" "$out/stub.c"
