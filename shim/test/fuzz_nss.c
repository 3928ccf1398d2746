/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: every call of the name service module on any file. Whatever the
 * file says, an id outside our range never comes out, nor a name not ours. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "calls.h"
#include "name.h"
#include "sallyport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(int condition)
{
	if (!condition)
		abort();
}

static void check_user(enum nss_status s, const struct passwd *pw, const char *buf, size_t len, int err)
{
	require(s == NSS_STATUS_SUCCESS || (s == NSS_STATUS_TRYAGAIN && err == ERANGE) || err == ENOENT);
	if (s != NSS_STATUS_SUCCESS)
		return;
	require(pw->pw_uid >= SP_ID_MIN && pw->pw_uid <= SP_UID_MAX && pw->pw_gid == pw->pw_uid);
	require(sp_name_shaped(pw->pw_name) && strcmp(pw->pw_passwd, "*") == 0);
	require(pw->pw_dir[0] == '/' && pw->pw_shell[0] == '/' && strlen(pw->pw_gecos) < len);
	require(pw->pw_name >= buf && pw->pw_shell + strlen(pw->pw_shell) < buf + len);
}

static void check_group(enum nss_status s, const struct group *gr, int err)
{
	size_t i;

	require(s == NSS_STATUS_SUCCESS || (s == NSS_STATUS_TRYAGAIN && err == ERANGE) || err == ENOENT);
	if (s != NSS_STATUS_SUCCESS)
		return;
	require(gr->gr_gid >= SP_ID_MIN && gr->gr_gid <= SP_ID_MAX && strcmp(gr->gr_passwd, "*") == 0);
	require(sp_name_shaped(gr->gr_name) == (gr->gr_gid <= SP_UID_MAX));
	for (i = 0; gr->gr_mem[i] != NULL; i++)
		require(sp_name_shaped(gr->gr_mem[i]));
}

static void calls(size_t room)
{
	static const char *const names[] = {"alice@example.com", "bob@example.com", "3f2b1c4d-0a9e-4b7c-8d6f-1234567890ab",
					    "u01@example.com", SP_GROUP_USERS, SP_GROUP_ADMINS, SP_GROUP_IDENTITY};
	static const uint32_t ids[] = {SP_ID_MIN, SP_ID_MIN + 1, SP_UID_MAX, SP_GID_ADMINS, SP_GID_IDENTITY};
	char *buf = malloc(room + 1);
	struct passwd pw;
	struct group gr;
	enum nss_status s;
	size_t i;
	int err = 0;

	require(buf != NULL);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		long start = 1, size = 1;
		gid_t *list = calloc(1, sizeof(gid_t));

		s = _nss_sallyport_getpwnam_r(names[i], &pw, buf, room, &err);
		check_user(s, &pw, buf, room, err);
		s = _nss_sallyport_getgrnam_r(names[i], &gr, buf, room, &err);
		check_group(s, &gr, err);
		(void)_nss_sallyport_initgroups_dyn(names[i], SP_ID_MIN, &start, &size, &list, 0, &err);
		require(start >= 1 && start <= size && start <= 4);
		while (--start >= 1)
			require(list[start] >= SP_GID_USERS && list[start] <= SP_GID_IDENTITY);
		free(list);
	}
	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		s = _nss_sallyport_getpwuid_r(ids[i], &pw, buf, room, &err);
		check_user(s, &pw, buf, room, err);
		s = _nss_sallyport_getgrgid_r(ids[i], &gr, buf, room, &err);
		check_group(s, &gr, err);
	}
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int fd = -1;

	if (fd < 0)
		fd = open(SALLYPORT_NSS_PATH, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	require(fd >= 0 && fchmod(fd, 0644) == 0 && ftruncate(fd, 0) == 0);
	require(pwrite(fd, data, len, 0) == (ssize_t)len);
	calls(len % 3 == 0 ? len % 131 : 4096);
	return 0;
}
