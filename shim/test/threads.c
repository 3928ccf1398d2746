/* SPDX-License-Identifier: Apache-2.0
 * Sixteen threads and their children ask the name service module while its file
 * is replaced by rename: nobody is missed, every answer is of one file, no
 * descriptor is left or inherited, errno stays.
 *   threads GOLDEN-FILE REPLACEMENTS
 * Built a second time with THROUGH_LIBC: then the C library is asked, which
 * loads the module itself. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "sallyport.h"

enum { THREADS = 16, LARGEST = 65536, FORK_EVERY = 128, EXEC_EVERY = 1024 };

static const char alice[] = "alice@example.com";
static unsigned char file[2][LARGEST];
static size_t file_len;
static char inherited[16]; /* how many descriptors this process was given */
static atomic_int failures, stop;
static atomic_ulong calls, children;

static void expect(int condition, const char *what)
{
	if (condition)
		return;
	if (atomic_fetch_add(&failures, 1) < 10)
		fprintf(stderr, "FAIL %s\n", what);
}

#ifdef THROUGH_LIBC
static enum nss_status told(int rc, const void *result, int *err)
{
	*err = rc;
	if (result != NULL)
		return NSS_STATUS_SUCCESS;
	return rc == 0 ? NSS_STATUS_NOTFOUND : rc == ERANGE ? NSS_STATUS_TRYAGAIN : NSS_STATUS_UNAVAIL;
}

static enum nss_status user_of(const char *name, uid_t uid, struct passwd *pw, char *buf, size_t len, int *err)
{
	struct passwd *r = NULL;
	int rc = name != NULL ? getpwnam_r(name, pw, buf, len, &r) : getpwuid_r(uid, pw, buf, len, &r);

	return told(rc, r, err);
}

static enum nss_status group_of(const char *name, gid_t gid, struct group *gr, char *buf, size_t len, int *err)
{
	struct group *r = NULL;
	int rc = name != NULL ? getgrnam_r(name, gr, buf, len, &r) : getgrgid_r(gid, gr, buf, len, &r);

	return told(rc, r, err);
}

static int groups_right(void)
{
	gid_t list[8];
	int n = 8;

	return getgrouplist("bob@example.com", SP_ID_MIN + 2, list, &n) == 3 && list[1] == SP_GID_USERS && list[2] == SP_GID_ADMINS;
}
#else
static enum nss_status user_of(const char *name, uid_t uid, struct passwd *pw, char *buf, size_t len, int *err)
{
	return name != NULL ? _nss_sallyport_getpwnam_r(name, pw, buf, len, err) : _nss_sallyport_getpwuid_r(uid, pw, buf, len, err);
}

static enum nss_status group_of(const char *name, gid_t gid, struct group *gr, char *buf, size_t len, int *err)
{
	return name != NULL ? _nss_sallyport_getgrnam_r(name, gr, buf, len, err) : _nss_sallyport_getgrgid_r(gid, gr, buf, len, err);
}

static int groups_right(void)
{
	long start = 1, size = 1;
	gid_t *list = calloc(1, sizeof(gid_t));
	int err, right = _nss_sallyport_initgroups_dyn("bob@example.com", SP_ID_MIN + 2, &start, &size, &list, 0, &err) == NSS_STATUS_SUCCESS &&
			 start == 3 && list[1] == SP_GID_USERS && list[2] == SP_GID_ADMINS;

	free(list);
	return right;
}
#endif

/* ask_user grows its buffer on ERANGE, as every caller does. */
static void ask_user(const char *name, uid_t uid)
{
	char buf[1024];
	struct passwd pw;
	size_t len = 16;
	int err = 0;
	enum nss_status s;

	do {
		len *= 2;
		errno = 77;
		s = user_of(name, uid, &pw, buf, len, &err);
	} while (s == NSS_STATUS_TRYAGAIN && err == ERANGE && len < sizeof(buf));
	expect(s == NSS_STATUS_SUCCESS, "somebody who is in every file was not found");
#ifndef THROUGH_LIBC
	expect(errno == 77, "errno was changed");
#endif
	if (s != NSS_STATUS_SUCCESS)
		return;
	expect(pw.pw_uid == SP_ID_MIN + 1 && strcmp(pw.pw_name, alice) == 0, "another user");
	expect((pw.pw_gecos[0] == 'A') == (strcmp(pw.pw_shell, "/bin/bash") == 0), "an answer from two files");
}

static void ask_group(const char *name, gid_t gid)
{
	char buf[1024];
	struct group gr;
	int err = 0;

	expect(group_of(name, gid, &gr, buf, sizeof(buf), &err) == NSS_STATUS_SUCCESS && strcmp(gr.gr_passwd, "*") == 0, "a group was not found");
}

static void ask(unsigned long i)
{
	char buf[256];
	struct passwd pw;
	int err = 0;

	switch (i % 6) {
	case 0:
		ask_user(alice, 0);
		break;
	case 1:
		ask_user(NULL, SP_ID_MIN + 1);
		break;
	case 2:
		ask_group(SP_GROUP_ADMINS, 0);
		break;
	case 3:
		ask_group(NULL, SP_ID_MIN + 2);
		break;
	case 4:
		expect(groups_right(), "the groups of a user");
		break;
	default:
		expect(user_of("absent@example.com", 0, &pw, buf, sizeof(buf), &err) == NSS_STATUS_NOTFOUND, "somebody who is in no file was found");
	}
	atomic_fetch_add(&calls, 1);
}

/* descriptors counts the open ones, without the folder's own. */
static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = -3;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n;
}

/* A child of a process with threads: what it asks is answered, and what it
 * starts inherits no descriptor of the module. */
static void child(int starts)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		char buf[1024];
		struct passwd pw;
		int err = 0;

		if (starts)
			execl("/proc/self/exe", "threads", inherited, (char *)NULL);
		_exit(user_of(alice, 0, &pw, buf, sizeof(buf), &err) != NSS_STATUS_SUCCESS);
	}
	expect(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, starts ? "a started program inherited a descriptor" : "a child was not answered");
	atomic_fetch_add(&children, 1);
}

static void *reader(void *arg)
{
	unsigned long i = *(unsigned *)arg;

	for (; !atomic_load(&stop); i++) {
		ask(i);
		if (i % FORK_EVERY == 0)
			child(i % EXEC_EVERY == 0);
	}
	return NULL;
}

static void replace(const unsigned char *b)
{
	int fd = open(SALLYPORT_NSS_PATH ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || fchmod(fd, 0644) != 0 || write(fd, b, file_len) != (ssize_t)file_len || rename(SALLYPORT_NSS_PATH ".new", SALLYPORT_NSS_PATH) != 0) {
		perror(SALLYPORT_NSS_PATH);
		exit(1);
	}
	close(fd);
}

/* load reads the golden file, and makes a second one in which alice has another
 * comment and another shell. */
static int load(const char *path)
{
	FILE *f = fopen(path, "rb");
	size_t at;

	if (f == NULL)
		return -1;
	file_len = fread(file[0], 1, LARGEST, f);
	fclose(f);
	memcpy(file[1], file[0], file_len);
	for (at = 64; at + 128 < file_len && memcmp(file[1] + at, alice, sizeof(alice)) != 0; at++)
		;
	file[1][at + sizeof(alice)] = 'B';
	for (; at + 9 < file_len && memcmp(file[1] + at, "/bin/bash", 9) != 0; at++)
		;
	file[1][at + 5] = 'd';
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t thread[THREADS];
	unsigned number[THREADS];
	unsigned long seen = 0;
	int before, i, n = argc == 3 ? atoi(argv[2]) : 0;

	if (argc == 2)
		return descriptors() != atoi(argv[1]);
	if (n <= 0 || load(argv[1]) != 0) {
		fprintf(stderr, "usage: threads GOLDEN-FILE REPLACEMENTS\n");
		return 1;
	}
#ifdef THROUGH_LIBC
	if (__nss_configure_lookup("passwd", "sallyport") != 0 || __nss_configure_lookup("group", "sallyport") != 0 ||
	    __nss_configure_lookup("initgroups", "sallyport") != 0)
		return 1;
#endif
	replace(file[0]);
	ask(0);
	before = descriptors();
	snprintf(inherited, sizeof(inherited), "%d", before);
	for (i = 0; i < THREADS; i++) {
		number[i] = (unsigned)i;
		if (pthread_create(&thread[i], NULL, reader, &number[i]) != 0)
			return 1;
	}
	for (i = 0; i < n; i++) {
		while (atomic_load(&calls) < seen + THREADS)
			sched_yield();
		seen = atomic_load(&calls);
		replace(file[(i + 1) % 2]);
	}
	atomic_store(&stop, 1);
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	expect(descriptors() == before, "a descriptor is left open");
	expect(atomic_load(&children) > THREADS, "too few children");
	unlink(SALLYPORT_NSS_PATH);
	printf("threads: %lu calls and %lu children during %d replacements, %d failures\n", atomic_load(&calls), atomic_load(&children), n, atomic_load(&failures));
	return atomic_load(&failures) != 0;
}
