/* SPDX-License-Identifier: Apache-2.0
 * Which login names can be ours. */
#ifndef SALLYPORT_NAME_H
#define SALLYPORT_NAME_H

/* sp_name_is_guid: 36 characters, 8-4-4-4-12 lower-case hexadecimal digits. */
int sp_name_is_guid(const char *name);

/* sp_name_domain returns the domain inside name when name has the shape
 * local@domain of a UPN of ours, else NULL. local: 1 to 64 of [a-z0-9._'+#-],
 * the first of [a-z0-9_] (a leading -, + or # means something else to getopt,
 * to compat NSS and to sudo); domain: DNS labels in lower case. */
const char *sp_name_domain(const char *name);

/* sp_name_shaped: could be ours, whatever the domain. */
int sp_name_shaped(const char *name);

#endif
