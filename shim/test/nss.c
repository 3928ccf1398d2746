/* SPDX-License-Identifier: Apache-2.0
 * The name service module on a right file and on hostile ones.
 *   nss GOLDEN-FILE
 * Built a second time with another trusted uid and FOREIGN_OWNER: then nothing
 * of the file may come out. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "calls.h"
#include "sallyport.h"

static unsigned char golden[65536];
static size_t golden_len;
static int failures;

static void expect(int condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "FAIL %s\n", what);
	failures++;
}

static void put(const unsigned char *b, size_t len)
{
	int fd;

	unlink(SALLYPORT_NSS_PATH);
	fd = open(SALLYPORT_NSS_PATH, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || fchmod(fd, 0644) != 0 || write(fd, b, len) != (ssize_t)len) {
		perror(SALLYPORT_NSS_PATH);
		exit(1);
	}
	close(fd);
}

static char buf[4096];
static struct passwd pw;
static struct group gr;
static int err;

static enum nss_status by_name(const char *name)
{
	return _nss_sallyport_getpwnam_r(name, &pw, buf, sizeof(buf), &err);
}

#ifndef FOREIGN_OWNER
static void put32(unsigned char *b, size_t at, uint32_t v)
{
	b[at] = (unsigned char)(v >> 24);
	b[at + 1] = (unsigned char)(v >> 16);
	b[at + 2] = (unsigned char)(v >> 8);
	b[at + 3] = (unsigned char)v;
}

static uint32_t get32(const unsigned char *b, size_t at)
{
	return (uint32_t)b[at] << 24 | (uint32_t)b[at + 1] << 16 | (uint32_t)b[at + 2] << 8 | b[at + 3];
}

/* Offset of the record of a name in the golden file. */
static size_t record_of(const char *name)
{
	size_t i, n = strlen(name);

	for (i = 64; i + n < golden_len; i++)
		if (memcmp(golden + i, name, n + 1) == 0)
			return i - 28;
	abort();
}

static enum nss_status with32(size_t at, uint32_t v, const char *name)
{
	unsigned char b[sizeof(golden)];

	memcpy(b, golden, golden_len);
	put32(b, at, v);
	put(b, golden_len);
	return by_name(name);
}

static void test_right(void)
{
	size_t need;

	put(golden, golden_len);
	errno = 77;
	expect(by_name("alice@example.com") == NSS_STATUS_SUCCESS && err == 0 && errno == 77, "by name");
	expect(pw.pw_uid == SP_ID_MIN + 1 && pw.pw_gid == SP_ID_MIN + 1, "uid and gid");
	expect(strcmp(pw.pw_name, "alice@example.com") == 0 && strcmp(pw.pw_passwd, "*") == 0, "name and password");
	expect(strcmp(pw.pw_dir, "/home/alice@example.com") == 0 && strcmp(pw.pw_shell, "/bin/bash") == 0, "home and shell");
	expect(strcmp(pw.pw_gecos, "Alice \xc3\x85ngstr\xc3\xb6m") == 0, "gecos");
	expect(_nss_sallyport_getpwuid_r(SP_UID_MAX, &pw, buf, sizeof(buf), &err) == NSS_STATUS_SUCCESS &&
		       strcmp(pw.pw_name, "ext_gmail.com#ext#@lab.example") == 0,
	       "by uid, the highest one");
	expect(by_name("3f2b1c4d-0a9e-4b7c-8d6f-1234567890ab") == NSS_STATUS_SUCCESS, "a GUID");
	expect(by_name("nobody@example.com") == NSS_STATUS_NOTFOUND && err == ENOENT && errno == 77, "an absent name");
	for (need = 0; need < sizeof(buf); need++) {
		enum nss_status s = _nss_sallyport_getpwnam_r("bob@example.com", &pw, buf, need, &err);

		if (s == NSS_STATUS_SUCCESS)
			break;
		expect(s == NSS_STATUS_TRYAGAIN && err == ERANGE && errno == 77, "too small a buffer");
	}
	expect(need == 16 + 4 + 22 + 8 + 2, "the exact size of a buffer");
	errno = 0;
	expect(_nss_sallyport_getpwnam_r("bob@example.com", &pw, buf, 3, &errno) == NSS_STATUS_TRYAGAIN && errno == ERANGE,
	       "errnop that is errno");
}

static void test_groups(void)
{
	size_t need;

	put(golden, golden_len);
	expect(_nss_sallyport_getgrnam_r("bob@example.com", &gr, buf, sizeof(buf), &err) == NSS_STATUS_SUCCESS &&
		       gr.gr_gid == SP_ID_MIN + 2 && gr.gr_mem[0] == NULL && strcmp(gr.gr_passwd, "*") == 0,
	       "private group by name");
	expect(_nss_sallyport_getgrgid_r(SP_ID_MIN + 2, &gr, buf, sizeof(buf), &err) == NSS_STATUS_SUCCESS &&
		       strcmp(gr.gr_name, "bob@example.com") == 0,
	       "private group by gid");
	expect(_nss_sallyport_getgrnam_r(SP_GROUP_ADMINS, &gr, buf, sizeof(buf), &err) == NSS_STATUS_SUCCESS &&
		       gr.gr_gid == SP_GID_ADMINS && strcmp(gr.gr_mem[0], "bob@example.com") == 0 && gr.gr_mem[1] == NULL,
	       "role group by name");
	expect(_nss_sallyport_getgrgid_r(SP_GID_USERS, &gr, buf, sizeof(buf), &err) == NSS_STATUS_SUCCESS &&
		       strcmp(gr.gr_name, SP_GROUP_USERS) == 0 && gr.gr_mem[0] == NULL,
	       "role group without members by gid");
	expect(_nss_sallyport_getgrgid_r(SP_ID_MAX, &gr, buf, sizeof(buf), &err) == NSS_STATUS_NOTFOUND, "a gid of nobody");
	expect(_nss_sallyport_getgrnam_r("sudo", &gr, buf, sizeof(buf), &err) == NSS_STATUS_NOTFOUND, "a local group");
	for (need = 0; need < 200; need++) {
		char *exact = malloc(need + 1);
		enum nss_status s = _nss_sallyport_getgrnam_r(SP_GROUP_IDENTITY, &gr, exact, need, &err);

		expect(s == NSS_STATUS_SUCCESS || (s == NSS_STATUS_TRYAGAIN && err == ERANGE), "a group in any buffer");
		free(exact);
		if (s == NSS_STATUS_SUCCESS)
			return;
	}
	expect(0, "a group in 200 bytes");
}

static void test_initgroups(void)
{
	long start = 1, size = 1;
	gid_t *list = calloc(1, sizeof(gid_t));

	put(golden, golden_len);
	expect(_nss_sallyport_initgroups_dyn("bob@example.com", SP_ID_MIN + 2, &start, &size, &list, 0, &err) ==
			       NSS_STATUS_SUCCESS &&
		       start == 3 && list[1] == SP_GID_USERS && list[2] == SP_GID_ADMINS,
	       "groups of an administrator");
	start = 1;
	expect(_nss_sallyport_initgroups_dyn("bob@example.com", SP_GID_USERS, &start, &size, &list, 0, &err) ==
			       NSS_STATUS_SUCCESS &&
		       start == 2 && list[1] == SP_GID_ADMINS,
	       "the group to leave out");
	start = 1;
	size = 1;
	expect(_nss_sallyport_initgroups_dyn("bob@example.com", 0, &start, &size, &list, 2, &err) == NSS_STATUS_SUCCESS &&
		       start == 2 && size == 2,
	       "the caller's limit");
	start = 1;
	expect(_nss_sallyport_initgroups_dyn("root", 0, &start, &size, &list, 0, &err) == NSS_STATUS_NOTFOUND && start == 1,
	       "groups of a local user");
	expect(_nss_sallyport_initgroups_dyn("ext_gmail.com#ext#@lab.example", 0, &start, &size, &list, 0, &err) ==
			       NSS_STATUS_SUCCESS &&
		       start == 1,
	       "nobody's groups");
	free(list);
}

/* No file, so an answer that needs none is told from one that does. */
static void test_without_file(void)
{
	static const char *const local[] = {"root", "azureuser", "alice", "Alice@example.com", "-a@example.com", "a@b@c", "",
					    "sallyport-admin", "3F2B1C4D-0A9E-4B7C-8D6F-1234567890AB"};
	static const uint32_t ids[] = {0, 1000, 65534, SP_ID_MIN - 1, SP_ID_MAX + 1U, UINT32_MAX, SP_ID_MAX};
	size_t i;

	unlink(SALLYPORT_NSS_PATH);
	for (i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		expect(by_name(local[i]) == NSS_STATUS_NOTFOUND && err == ENOENT, local[i]);
		expect(_nss_sallyport_getgrnam_r(local[i], &gr, buf, sizeof(buf), &err) == NSS_STATUS_NOTFOUND, local[i]);
	}
	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		expect(_nss_sallyport_getpwuid_r(ids[i], &pw, buf, sizeof(buf), &err) == NSS_STATUS_NOTFOUND, "a foreign uid");
		expect(_nss_sallyport_getgrgid_r(ids[i], &gr, buf, sizeof(buf), &err) == NSS_STATUS_NOTFOUND, "a foreign gid");
	}
	expect(_nss_sallyport_getpwuid_r(SP_GID_ADMINS, &pw, buf, sizeof(buf), &err) == NSS_STATUS_NOTFOUND,
	       "a role group's id is nobody's uid");
	expect(by_name("alice@example.com") == NSS_STATUS_UNAVAIL && err == ENOENT, "ours without a file");
}

static void test_hostile(void)
{
	static const uint32_t bad_ids[] = {0, 1000, SP_ID_MIN - 1, SP_GID_USERS, SP_GID_ADMINS, SP_ID_MAX, UINT32_MAX};
	size_t alice = record_of("alice@example.com"), i;
	unsigned char b[sizeof(golden)];
	uint32_t size = (uint32_t)golden_len;

	for (i = 0; i < sizeof(bad_ids) / sizeof(bad_ids[0]); i++)
		expect(with32(alice + 8, bad_ids[i], "alice@example.com") == NSS_STATUS_NOTFOUND, "an id that is not ours");
	expect(with32(alice, (uint32_t)alice, "alice@example.com") == NSS_STATUS_SUCCESS, "a loop behind the hit");
	memcpy(b, golden, golden_len);
	for (i = 0; i < 8; i++)
		put32(b, get32(golden, 24) + 4 * i, (uint32_t)alice);
	put32(b, alice, (uint32_t)alice);
	put(b, golden_len);
	expect(by_name("bob@example.com") == NSS_STATUS_UNAVAIL && err == ENOENT, "a chain that loops");
	expect(with32(alice + 16, 27, "alice@example.com") == NSS_STATUS_UNAVAIL, "a record that is too short");
	expect(with32(alice + 16, UINT32_MAX, "alice@example.com") == NSS_STATUS_UNAVAIL, "a record of 4 GiB");
	expect(with32(alice + 20, UINT32_MAX, "alice@example.com") == NSS_STATUS_UNAVAIL, "texts of 65535 bytes");
	expect(with32(8, size + 1, "alice@example.com") == NSS_STATUS_UNAVAIL, "another size than the file's");
	expect(with32(16, 4097, "alice@example.com") == NSS_STATUS_UNAVAIL, "too many domains");
	expect(with32(16, 5, "alice@example.com") == NSS_STATUS_UNAVAIL, "domains without an end");
	expect(with32(16, 0, "alice@example.com") == NSS_STATUS_NOTFOUND, "no domain");
	expect(with32(20, 0, "alice@example.com") == NSS_STATUS_UNAVAIL, "no bucket");
	expect(with32(20, 7, "alice@example.com") == NSS_STATUS_UNAVAIL, "seven buckets");
	expect(with32(20, 1U << 31, "alice@example.com") != NSS_STATUS_SUCCESS, "2^31 buckets");
	expect(with32(24, size - 3, "alice@example.com") == NSS_STATUS_UNAVAIL, "a table behind the end");
	expect(with32(24, UINT32_MAX, "alice@example.com") == NSS_STATUS_UNAVAIL, "a table at 4 GiB");
	expect(with32(alice + 28, 0x2d6c6963, "-lice@example.com") == NSS_STATUS_NOTFOUND, "a name that is not ours");
	memcpy(b, golden, golden_len);
	b[alice + 28 + 18] = ':';
	put(b, golden_len);
	expect(by_name("alice@example.com") == NSS_STATUS_UNAVAIL, "a colon in a text");
	b[alice + 28 + 18] = '\n';
	put(b, golden_len);
	expect(by_name("alice@example.com") == NSS_STATUS_UNAVAIL, "a line feed in a text");
	memcpy(b, golden, golden_len);
	put32(b, 44, 0);
	put32(b, 48, size);
	put(b, golden_len);
	expect(_nss_sallyport_getgrnam_r(SP_GROUP_ADMINS, &gr, buf, sizeof(buf), &err) == NSS_STATUS_UNAVAIL, "members that are no names");
	put32(b, 44, size);
	put32(b, 48, 8);
	put(b, golden_len);
	expect(_nss_sallyport_getgrnam_r(SP_GROUP_ADMINS, &gr, buf, sizeof(buf), &err) == NSS_STATUS_UNAVAIL, "members behind the end");
	put32(b, 48, UINT32_MAX);
	put(b, golden_len);
	expect(_nss_sallyport_getgrnam_r(SP_GROUP_ADMINS, &gr, buf, sizeof(buf), &err) == NSS_STATUS_UNAVAIL, "4 GiB of members");
	memcpy(b, golden, golden_len);
	put32(b, 48, get32(golden, 48) - 1);
	put(b, golden_len);
	expect(_nss_sallyport_getgrnam_r(SP_GROUP_ADMINS, &gr, buf, sizeof(buf), &err) == NSS_STATUS_UNAVAIL, "members without an end");
}

/* A record whose one text runs on, byte for byte acceptable, behind all that is
 * read of a record. */
static void test_endless_text(void)
{
	unsigned char b[sizeof(golden)];
	size_t len = golden_len + 4096, slot;

	memcpy(b, golden, golden_len);
	memset(b + golden_len, 'a', 4096);
	put32(b, 8, (uint32_t)len);
	for (slot = 0; slot < get32(golden, 20); slot++)
		put32(b, get32(golden, 24) + 4 * slot, (uint32_t)golden_len);
	put32(b, golden_len, 0);
	put32(b, golden_len + 16, 28 + 3000 + 4);
	put32(b, golden_len + 20, 3000U << 16);
	put(b, len);
	expect(by_name("alice@example.com") == NSS_STATUS_UNAVAIL, "a text behind the record");
}

static void test_file(void)
{
	size_t n;

	for (n = 0; n < golden_len; n += n < 256 ? 1 : 31) {
		put(golden, n);
		expect(by_name("alice@example.com") == NSS_STATUS_UNAVAIL, "a file that is cut off");
	}
	put(golden, golden_len);
	expect(chmod(SALLYPORT_NSS_PATH, 0664) == 0 && by_name("alice@example.com") == NSS_STATUS_UNAVAIL, "a file that a group may write");
	expect(rename(SALLYPORT_NSS_PATH, SALLYPORT_NSS_PATH ".real") == 0 && chmod(SALLYPORT_NSS_PATH ".real", 0644) == 0 &&
		       symlink("nss.db.real", SALLYPORT_NSS_PATH) == 0 && by_name("alice@example.com") == NSS_STATUS_UNAVAIL,
	       "a symbolic link");
	unlink(SALLYPORT_NSS_PATH);
	unlink(SALLYPORT_NSS_PATH ".real");
	expect(mkfifo(SALLYPORT_NSS_PATH, 0644) == 0 && by_name("alice@example.com") == NSS_STATUS_UNAVAIL, "a pipe");
	unlink(SALLYPORT_NSS_PATH);
}
#endif

int main(int argc, char **argv)
{
	FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;

	if (f == NULL) {
		fprintf(stderr, "usage: nss GOLDEN-FILE\n");
		return 1;
	}
	golden_len = fread(golden, 1, sizeof(golden), f);
	fclose(f);
#ifdef FOREIGN_OWNER
	put(golden, golden_len);
	expect(by_name("alice@example.com") == NSS_STATUS_UNAVAIL, "a file of another owner");
	expect(_nss_sallyport_getgrnam_r(SP_GROUP_ADMINS, &gr, buf, sizeof(buf), &err) == NSS_STATUS_UNAVAIL, "its groups");
#else
	test_right();
	test_groups();
	test_initgroups();
	test_without_file();
	test_hostile();
	test_endless_text();
	test_file();
#endif
	unlink(SALLYPORT_NSS_PATH);
	if (failures == 0)
		printf("nss: right on the golden file, safe on the hostile ones\n");
	return failures != 0;
}
