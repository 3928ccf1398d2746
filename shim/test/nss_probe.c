/* SPDX-License-Identifier: Apache-2.0
 * Asks the C library, which is told to use the sallyport service only, for this
 * process only; LD_LIBRARY_PATH says where the module is.
 *   nss_probe passwd NAME | uid N | group NAME | gid N | groups NAME GID | bench NAME COUNT */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char buf[1 << 16];

static int show_user(int rc, const struct passwd *pw)
{
	if (pw == NULL) {
		printf("none %d\n", rc);
		return 0;
	}
	printf("%s:%s:%u:%u:%s:%s:%s\n", pw->pw_name, pw->pw_passwd, pw->pw_uid, pw->pw_gid, pw->pw_gecos, pw->pw_dir, pw->pw_shell);
	return 0;
}

static int show_group(int rc, const struct group *gr)
{
	size_t i;

	if (gr == NULL) {
		printf("none %d\n", rc);
		return 0;
	}
	printf("%s:%s:%u:", gr->gr_name, gr->gr_passwd, gr->gr_gid);
	for (i = 0; gr->gr_mem[i] != NULL; i++)
		printf("%s%s", i > 0 ? "," : "", gr->gr_mem[i]);
	printf("\n");
	return 0;
}

static int show_groups(const char *name, gid_t gid)
{
	gid_t list[64];
	int n = 64, i;

	if (getgrouplist(name, gid, list, &n) < 0)
		return 1;
	for (i = 0; i < n; i++)
		printf("%s%u", i > 0 ? "," : "", list[i]);
	printf("\n");
	return 0;
}

static int bench(const char *name, long count)
{
	struct timespec a, b;
	struct passwd pw, *got;
	long i, found = 0;

	(void)getpwnam_r(name, &pw, buf, sizeof(buf), &got); /* loads the module */
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < count; i++) {
		(void)getpwnam_r(name, &pw, buf, sizeof(buf), &got);
		found += got != NULL;
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%.2f us, %ld found\n", ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 1e3 / (double)count, found);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	struct passwd pw, *got_pw = NULL;
	struct group gr, *got_gr = NULL;
	int rc;

	if (__nss_configure_lookup("passwd", getenv("PROBE_SERVICE") ? getenv("PROBE_SERVICE") : "sallyport") != 0 ||
	    __nss_configure_lookup("group", "sallyport") != 0 || __nss_configure_lookup("initgroups", "sallyport") != 0)
		return 1;
	if (strcmp(what, "passwd") == 0) {
		rc = getpwnam_r(argv[2], &pw, buf, sizeof(buf), &got_pw);
		return show_user(rc, got_pw);
	}
	if (strcmp(what, "uid") == 0) {
		rc = getpwuid_r((uid_t)strtoul(argv[2], NULL, 10), &pw, buf, sizeof(buf), &got_pw);
		return show_user(rc, got_pw);
	}
	if (strcmp(what, "group") == 0) {
		rc = getgrnam_r(argv[2], &gr, buf, sizeof(buf), &got_gr);
		return show_group(rc, got_gr);
	}
	if (strcmp(what, "gid") == 0) {
		rc = getgrgid_r((gid_t)strtoul(argv[2], NULL, 10), &gr, buf, sizeof(buf), &got_gr);
		return show_group(rc, got_gr);
	}
	if (strcmp(what, "groups") == 0 && argc > 3)
		return show_groups(argv[2], (gid_t)strtoul(argv[3], NULL, 10));
	if (strcmp(what, "bench") == 0 && argc > 3)
		return bench(argv[2], strtol(argv[3], NULL, 10));
	fprintf(stderr, "usage: nss_probe passwd NAME | uid N | group NAME | gid N | groups NAME GID | bench NAME COUNT\n");
	return 1;
}
