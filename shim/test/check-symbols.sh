#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The libraries export exactly the listed symbols and need no glibc above 2.17;
# the principals command needs no library at all.
set -eu
out=$1
status=0

exports() { # file, then the expected symbols
	file=$1
	shift
	got=$(nm -D --defined-only "$out/$file" | awk '{print $3}' | sort | tr '\n' ' ')
	want=$(printf '%s\n' "$@" | sort | tr '\n' ' ')
	if [ "$got" != "$want" ]; then
		echo "$file exports: $got; expected: $want" >&2
		status=1
	fi
}

oldest() { # file
	newer=$(objdump -T "$out/$1" | grep -o 'GLIBC_[0-9.]*' | sort -u | while read -r v; do
		last=$(printf '%s\nGLIBC_2.17\n' "$v" | sort -V | tail -1)
		[ "$last" = GLIBC_2.17 ] || echo "$v"
	done)
	if [ -n "$newer" ]; then
		echo "$1 needs $newer; the limit is GLIBC_2.17" >&2
		status=1
	fi
}

exports libnss_sallyport.so.2 _nss_sallyport_getpwnam_r _nss_sallyport_getpwuid_r \
	_nss_sallyport_getgrnam_r _nss_sallyport_getgrgid_r _nss_sallyport_initgroups_dyn
exports pam_sallyport.so pam_sm_authenticate pam_sm_setcred pam_sm_acct_mgmt \
	pam_sm_open_session pam_sm_close_session
oldest libnss_sallyport.so.2
oldest pam_sallyport.so

for f in libnss_sallyport.so.2 pam_sallyport.so; do
	libs=$(objdump -p "$out/$f" | awk '/NEEDED/ {print $2}' | sort | tr '\n' ' ')
	case "$f:$libs" in
	libnss*:"libc.so.6 " | pam*:"libc.so.6 libpam.so.0 ") ;;
	*) echo "$f needs $libs" >&2; status=1 ;;
	esac
done
if objdump -p "$out/sallyport-principals" | grep -q NEEDED; then
	echo "sallyport-principals is not static" >&2
	status=1
fi
[ "$status" -eq 0 ] && echo "symbols: as listed, no glibc above 2.17"
exit "$status"
