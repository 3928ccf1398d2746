/* SPDX-License-Identifier: Apache-2.0
 *
 * Constants that the C parts share with internal/agent/shim (Go). The section
 * "Shim frames and NSS file" of docs/machine-protocol.md is their text form.
 * Paths and the trusted uid change at compile time only, for tests: nothing is
 * taken from the environment or from arguments.
 */
#ifndef SALLYPORT_H
#define SALLYPORT_H

#ifndef SALLYPORT_NSS_PATH
#define SALLYPORT_NSS_PATH "/var/lib/sallyport/nss.db"
#endif
#ifndef SALLYPORT_PAM_SOCKET
#define SALLYPORT_PAM_SOCKET "/run/sallyport/pam.sock"
#endif
#ifndef SALLYPORT_PRINCIPALS_SOCKET
#define SALLYPORT_PRINCIPALS_SOCKET "/run/sallyport/principals.sock"
#endif
/* Owner of the NSS file and of the process behind the sockets. */
#ifndef SALLYPORT_TRUSTED_UID
#define SALLYPORT_TRUSTED_UID 0
#endif
/* Whole exchange: connect, send, receive. */
#ifndef SALLYPORT_TIMEOUT_MS
#define SALLYPORT_TIMEOUT_MS 3000
#endif

/* Ids of ours. The three ids of the role groups at the top are no user's, so
 * that no private group can be a role group. */
#define SP_ID_MIN 1879048192U
#define SP_ID_MAX 2147483647U
#define SP_UID_MAX 2147483639U
#define SP_GID_USERS 2147483640U
#define SP_GID_ADMINS 2147483641U
#define SP_GID_IDENTITY 2147483642U
#define SP_GROUP_USERS "sallyport-users"
#define SP_GROUP_ADMINS "sallyport-admins"
#define SP_GROUP_IDENTITY "sallyport-identity"

#define SP_NAME_MAX 255U
#define SP_GUID_LEN 36U

#endif
