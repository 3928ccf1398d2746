/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <string.h>

#include "sallyport.h"

enum { LOCAL_MAX = 64, LABEL_MAX = 63, DOMAIN_MAX = 253 };

static int is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static int is_local(char c)
{
	return is_alnum(c) || (c != '\0' && strchr("._-'+#", c) != NULL);
}

int sp_name_is_guid(const char *name)
{
	size_t i;

	for (i = 0; i < SP_GUID_LEN; i++) {
		char c = name[i];

		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (c != '-')
				return 0;
		} else if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
			return 0;
		}
	}
	return name[SP_GUID_LEN] == '\0';
}

static int is_domain(const char *s, size_t len)
{
	size_t i, label = 0;

	if (len == 0 || len > DOMAIN_MAX)
		return 0;
	for (i = 0; i < len; i++) {
		if (s[i] == '.') {
			if (label == 0 || s[i - 1] == '-')
				return 0;
			label = 0;
			continue;
		}
		if (!is_alnum(s[i]) && !(s[i] == '-' && label > 0))
			return 0;
		if (++label > LABEL_MAX)
			return 0;
	}
	return label > 0 && s[len - 1] != '-';
}

const char *sp_name_domain(const char *name)
{
	size_t len = strnlen(name, SP_NAME_MAX + 1), local = 0;

	if (len > SP_NAME_MAX)
		return NULL;
	while (is_local(name[local]))
		local++;
	if (local == 0 || local > LOCAL_MAX || name[local] != '@')
		return NULL;
	if (!is_alnum(name[0]) && name[0] != '_')
		return NULL;
	if (!is_domain(name + local + 1, len - local - 1))
		return NULL;
	return name + local + 1;
}

int sp_name_shaped(const char *name)
{
	return sp_name_is_guid(name) || sp_name_domain(name) != NULL;
}
