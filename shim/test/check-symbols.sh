#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The libraries export exactly the listed symbols, take nothing but the listed
# ones from others (no environment, no memory, no loading, no programs), need no
# glibc above 2.17 and no other library; the principals command needs none.
#   check-symbols.sh FOLDER    with NM and OBJDUMP for another architecture
set -eu
out=$1
nm=${NM:-nm}
objdump=${OBJDUMP:-objdump}
status=0

same() { # what, got, then the expected words
	what=$1
	got=$2
	shift 2
	want=$(printf '%s\n' "$@" | sort | tr '\n' ' ')
	if [ "$got" != "$want" ]; then
		echo "$out: $what: $got; expected: $want" >&2
		status=1
	fi
}

exports() { # file, then the expected symbols
	file=$1
	shift
	same "$file exports" "$("$nm" -D --defined-only "$out/$file" | awk '{print $3}' | sort | tr '\n' ' ')" "$@"
}

# What the compiler adds by itself, its start-up code and the checked forms of
# memcpy and its like, is no import of ours.
imports() { # file, then what it may take
	file=$1
	shift
	allowed=" $* "
	dynamic=-D
	case "$file" in *.o) dynamic= ;; esac
	for s in $("$nm" $dynamic --undefined-only "$out/$file" | awk '{print $NF}' | sed 's/@.*//'); do
		case "$s" in
		__gmon_start__ | _ITM_* | __cxa_finalize | __stack_chk_fail | __stack_chk_guard | __mem*_chk | _GLOBAL_OFFSET_TABLE_) continue ;;
		esac
		case "$allowed" in
		*" $s "*) ;;
		*) echo "$out: $file takes $s from elsewhere, which is not listed in check-symbols.sh" >&2; status=1 ;;
		esac
	done
}

oldest() { # file
	newer=$("$objdump" -T "$out/$1" | grep -o 'GLIBC_[0-9.]*' | sort -u | while read -r v; do
		last=$(printf '%s\nGLIBC_2.17\n' "$v" | sort -V | tail -1)
		[ "$last" = GLIBC_2.17 ] || echo "$v"
	done)
	same "$1, symbols of glibc after 2.17" "${newer:-none }" "${newer:+none}none"
}

needs() { # file, then the libraries
	file=$1
	shift
	same "$file needs" "$("$objdump" -p "$out/$file" | awk '/NEEDED/ {print $2}' | grep -v '^ld-linux' | sort | tr '\n' ' ')" "$@"
}

exports libnss_sallyport.so.2 _nss_sallyport_getpwnam_r _nss_sallyport_getpwuid_r \
	_nss_sallyport_getgrnam_r _nss_sallyport_getgrgid_r _nss_sallyport_initgroups_dyn
exports pam_sallyport.so pam_sm_authenticate pam_sm_setcred pam_sm_acct_mgmt \
	pam_sm_open_session pam_sm_close_session
imports libnss_sallyport.so.2 __errno_location open pread close syscall realloc pthread_setcancelstate \
	memcmp memcpy memset strchr strcmp strlen strnlen
imports pam_sallyport.so __errno_location socket connect getsockopt send recv poll close clock_gettime pthread_setcancelstate free \
	memcmp memcpy memset strchr strcmp strcspn strlen strncmp strnlen pam_get_item pam_get_user pam_prompt pam_syslog
imports test/sallyport-principals.o __errno_location socket connect getsockopt send recv poll close write clock_gettime pthread_setcancelstate \
	memcmp memcpy memset strchr strlen strnlen
oldest libnss_sallyport.so.2
oldest pam_sallyport.so
needs libnss_sallyport.so.2 libc.so.6
needs pam_sallyport.so libc.so.6 libpam.so.0
if "$objdump" -p "$out/sallyport-principals" | grep -q NEEDED; then
	echo "sallyport-principals is not static" >&2
	status=1
fi
[ "$status" -eq 0 ] && echo "symbols: as listed, no glibc above 2.17 ($("$objdump" -f "$out/pam_sallyport.so" | awk '/file format/ {print $NF}'))"
exit "$status"
