/* SPDX-License-Identifier: Apache-2.0
 * The entry points of the name service module, for the tests. */
#ifndef SALLYPORT_TEST_CALLS_H
#define SALLYPORT_TEST_CALLS_H

#include <grp.h>
#include <nss.h>
#include <pwd.h>

enum nss_status _nss_sallyport_getpwnam_r(const char *, struct passwd *, char *, size_t, int *);
enum nss_status _nss_sallyport_getpwuid_r(uid_t, struct passwd *, char *, size_t, int *);
enum nss_status _nss_sallyport_getgrnam_r(const char *, struct group *, char *, size_t, int *);
enum nss_status _nss_sallyport_getgrgid_r(gid_t, struct group *, char *, size_t, int *);
enum nss_status _nss_sallyport_initgroups_dyn(const char *, gid_t, long *, long *, gid_t **, long, int *);

#endif
