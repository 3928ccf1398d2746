/* SPDX-License-Identifier: Apache-2.0
 *
 * Name service module: passwd by name and uid, group by name and gid, and the
 * groups of a user, read from one hash file that the agent replaces by rename.
 * Format: docs/machine-protocol.md, "Shim frames and NSS file".
 *
 * No state between calls, no lock, no socket, no enumeration. What cannot be
 * ours is answered without touching the file; what the file says is checked
 * byte by byte, and ids outside our range are not found whatever it says.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <nss.h>
#include <pthread.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "name.h"
#include "sallyport.h"

#if !defined(__LP64__) || !defined(SYS_fstat)
#error "only 64-bit systems, where the kernel's and the C library's struct stat agree"
#endif

#define EXPORT __attribute__((visibility("default")))

enum {
	HEADER = 64,
	DOMAINS_MAX = 4096,
	RECORD = 28,       /* fixed part of a user record */
	RECORD_MAX = 1024, /* whole user record */
	CHAIN_MAX = 64,
	ROLES = 3
};

struct role {
	const char *name;
	gid_t gid;
};

static const struct role roles[ROLES] = {
	{SP_GROUP_USERS, SP_GID_USERS},
	{SP_GROUP_ADMINS, SP_GID_ADMINS},
	{SP_GROUP_IDENTITY, SP_GID_IDENTITY},
};

struct db {
	int fd;
	int cancel; /* the caller's state, while the file is open */
	uint32_t size;
	unsigned char head[HEADER + DOMAINS_MAX];
};

enum text { NAME, GECOS, HOME, SHELL, TEXTS };

struct user {
	uint32_t uid, roles;
	const char *text[TEXTS]; /* one after another in raw, a NUL after each */
	size_t text_len;
	unsigned char raw[RECORD_MAX];
};

/* The result of a call before it is told in NSS's words. */
struct outcome {
	enum nss_status status;
	int err;
};

static const struct outcome success = {NSS_STATUS_SUCCESS, 0};
static const struct outcome not_found = {NSS_STATUS_NOTFOUND, ENOENT};
static const struct outcome unavailable = {NSS_STATUS_UNAVAIL, ENOENT};
static const struct outcome too_small = {NSS_STATUS_TRYAGAIN, ERANGE};

static struct outcome failed(int err)
{
	if (err == EMFILE || err == ENFILE || err == ENOMEM || err == EINTR)
		return (struct outcome){NSS_STATUS_TRYAGAIN, err};
	return unavailable;
}

/* finish leaves the caller's errno as it was, save where errnop is that errno
 * and there is an error to tell. */
static enum nss_status finish(struct outcome o, int saved, int *errnop)
{
	errno = saved;
	if (o.status != NSS_STATUS_SUCCESS)
		*errnop = o.err;
	else if (errnop != &errno)
		*errnop = 0;
	return o.status;
}

static uint32_t get32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static size_t get16(const unsigned char *p)
{
	return (size_t)p[0] << 8 | p[1];
}

static int is_uid(uint32_t id)
{
	return id >= SP_ID_MIN && id <= SP_UID_MAX;
}

/* role_of returns the index of a role group by name, or by gid where name is
 * NULL; -1 if it is none. */
static int role_of(const char *name, gid_t gid)
{
	int i;

	for (i = 0; i < ROLES; i++)
		if (name != NULL ? strcmp(roles[i].name, name) == 0 : roles[i].gid == gid)
			return i;
	return -1;
}

/* read_at fills len bytes from offset, all of them inside the file. */
static int read_at(const struct db *db, void *out, size_t len, uint64_t offset)
{
	size_t got = 0;

	if (offset > db->size || len > db->size - offset)
		return -1;
	while (got < len) {
		ssize_t n = pread(db->fd, (char *)out + got, len - got, (off_t)(offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		got += (size_t)n;
	}
	return 0;
}

/* load checks owner, kind, size and header. fstat(2) is called directly: the C
 * library's symbol for it is newer than glibc 2.17. */
static int load(struct db *db)
{
	struct stat st;
	size_t want;
	uint32_t domains, buckets;

	memset(&st, 0, sizeof(st));
	if (syscall(SYS_fstat, db->fd, &st) != 0)
		return -1;
	if (st.st_uid != SALLYPORT_TRUSTED_UID || !S_ISREG(st.st_mode) || (st.st_mode & 022) != 0)
		return -1;
	if (st.st_size < HEADER || st.st_size > INT32_MAX)
		return -1;
	db->size = (uint32_t)st.st_size;
	want = db->size < sizeof(db->head) ? db->size : sizeof(db->head);
	if (read_at(db, db->head, want, 0) != 0)
		return -1;
	if (memcmp(db->head, "SPNSSDB1", 8) != 0 || get32(db->head + 8) != db->size)
		return -1;
	domains = get32(db->head + 16);
	buckets = get32(db->head + 20);
	if (domains > want - HEADER || (domains > 0 && db->head[HEADER + domains - 1] != '\0'))
		return -1;
	if (buckets == 0 || (buckets & (buckets - 1)) != 0)
		return -1;
	return 0;
}

/* open_db opens the file until close_db. A thread that is cancelled in between
 * would leave the descriptor behind, so it is cancelled after the call. */
static struct outcome open_db(struct db *db)
{
	struct outcome o = success;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &db->cancel);
	db->fd = open(SALLYPORT_NSS_PATH, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (db->fd < 0) {
		o = failed(errno);
	} else if (load(db) != 0) {
		close(db->fd);
		o = unavailable;
	}
	if (o.status != NSS_STATUS_SUCCESS)
		(void)pthread_setcancelstate(db->cancel, NULL);
	return o;
}

static void close_db(const struct db *db)
{
	close(db->fd);
	(void)pthread_setcancelstate(db->cancel, NULL);
}

/* is_ours: a GUID, or a UPN under one of the domains in the header. */
static int is_ours(const struct db *db, const char *name)
{
	const char *domain = sp_name_domain(name);
	size_t at = 0, len = get32(db->head + 16);

	if (domain == NULL)
		return sp_name_is_guid(name);
	while (at < len) {
		const char *d = (const char *)db->head + HEADER + at;

		if (strcmp(d, domain) == 0)
			return 1;
		at += strlen(d) + 1;
	}
	return 0;
}

/* FNV-1a, started from the header's seed, which the writer chooses so that no
 * chain is long. */
static uint32_t hash(uint32_t seed, const unsigned char *p, size_t len)
{
	uint32_t h = 2166136261U ^ seed;

	while (len-- > 0) {
		h ^= *p++;
		h *= 16777619U;
	}
	return h ^ (h >> 15);
}

static int is_text(const char *s, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[i] == ':')
			return 0;
	return s[len] == '\0';
}

static int read_user(const struct db *db, uint32_t offset, struct user *u)
{
	size_t at = RECORD, len, i;

	if (offset < HEADER || offset >= db->size)
		return -1;
	len = db->size - offset < RECORD_MAX ? db->size - offset : RECORD_MAX;
	if (len < RECORD || read_at(db, u->raw, len, offset) != 0)
		return -1;
	for (i = 0; i < TEXTS; i++) {
		size_t n = get16(u->raw + 20 + 2 * i);

		u->text[i] = (const char *)u->raw + at;
		if (n >= len - at || !is_text(u->text[i], n))
			return -1;
		at += n + 1;
	}
	if (get32(u->raw + 16) != at || u->text[HOME][0] != '/' || u->text[SHELL][0] != '/')
		return -1;
	u->uid = get32(u->raw + 8);
	u->roles = get32(u->raw + 12);
	u->text_len = at - RECORD;
	return 0;
}

/* find follows one chain: by name, or by uid where name is NULL. */
static struct outcome find(const struct db *db, const char *name, uint32_t uid, struct user *u)
{
	unsigned char key[4] = {(unsigned char)(uid >> 24), (unsigned char)(uid >> 16),
				(unsigned char)(uid >> 8), (unsigned char)uid};
	uint32_t seed = get32(db->head + 12), buckets = get32(db->head + 20);
	uint32_t table = get32(db->head + (name != NULL ? 24 : 28)), slot, next;
	int steps;

	if (name != NULL)
		slot = hash(seed, (const unsigned char *)name, strlen(name)) & (buckets - 1);
	else
		slot = hash(seed, key, sizeof(key)) & (buckets - 1);
	if (read_at(db, key, sizeof(key), (uint64_t)table + (uint64_t)slot * 4) != 0)
		return unavailable;
	next = get32(key);
	for (steps = 0; next != 0; steps++) {
		if (steps == CHAIN_MAX || read_user(db, next, u) != 0)
			return unavailable;
		if (name != NULL ? strcmp(u->text[NAME], name) == 0 : u->uid == uid)
			return is_uid(u->uid) && is_ours(db, u->text[NAME]) ? success : not_found;
		next = get32(u->raw + (name != NULL ? 0 : 4));
	}
	return not_found;
}

/* lookup opens the file and finds one user. */
static struct outcome lookup(const char *name, uint32_t uid, struct user *u)
{
	struct db db;
	struct outcome o = open_db(&db);

	if (o.status != NSS_STATUS_SUCCESS)
		return o;
	o = find(&db, name, uid, u);
	close_db(&db);
	return o;
}

static struct outcome give_user(const char *name, uid_t uid, struct passwd *pw, char *buf, size_t len)
{
	struct user u;
	struct outcome o = lookup(name, uid, &u);

	if (o.status != NSS_STATUS_SUCCESS)
		return o;
	if (len < u.text_len + 2)
		return too_small;
	memcpy(buf, u.text[NAME], u.text_len);
	memcpy(buf + u.text_len, "*", 2);
	pw->pw_name = buf;
	pw->pw_gecos = buf + (u.text[GECOS] - u.text[NAME]);
	pw->pw_dir = buf + (u.text[HOME] - u.text[NAME]);
	pw->pw_shell = buf + (u.text[SHELL] - u.text[NAME]);
	pw->pw_passwd = buf + u.text_len;
	pw->pw_uid = u.uid;
	pw->pw_gid = u.uid;
	return success;
}

/* place_members puts the list of pointers behind the used bytes of buf, whose
 * last text_len bytes are the members' names, a NUL after each. */
static struct outcome place_members(struct group *gr, char *buf, size_t len, size_t used, size_t text_len)
{
	size_t at = used - text_len, count = 0, pad, i;
	char **list;

	if (text_len > 0 && buf[used - 1] != '\0')
		return unavailable;
	for (i = at; i < used; i += strlen(buf + i) + 1) {
		if (!sp_name_shaped(buf + i))
			return unavailable;
		count++;
	}
	pad = (size_t)(-(uintptr_t)(buf + used)) % sizeof(char *);
	if (len - used < pad || (len - used - pad) / sizeof(char *) < count + 1)
		return too_small;
	list = (char **)(void *)(buf + used + pad);
	for (i = 0; i < count; i++) {
		list[i] = buf + at;
		at += strlen(buf + at) + 1;
	}
	list[count] = NULL;
	gr->gr_mem = list;
	return success;
}

/* fill_group fills gr; the members are len bytes of the file at offset. */
static struct outcome fill_group(const struct db *db, const struct role *role, const unsigned char *where,
				 struct group *gr, char *buf, size_t len)
{
	size_t name = strlen(role->name) + 1;
	uint32_t offset = get32(where), members = get32(where + 4);

	if (members > INT32_MAX)
		return unavailable;
	if (len < name + 2 || len - name - 2 < members)
		return too_small;
	memcpy(buf, role->name, name);
	memcpy(buf + name, "*", 2);
	if (members > 0 && read_at(db, buf + name + 2, members, offset) != 0)
		return unavailable;
	gr->gr_name = buf;
	gr->gr_passwd = buf + name;
	gr->gr_gid = role->gid;
	return place_members(gr, buf, len, name + 2 + members, members);
}

/* give_group: a role group, whose name and id are constants and whose members
 * the file lists, or the private group of a user: his name, his uid, nobody. */
static struct outcome give_group(const char *name, gid_t gid, struct group *gr, char *buf, size_t len)
{
	static const unsigned char nobody[8];
	int index = role_of(name, gid);
	struct role private;
	struct outcome o;
	struct user u;
	struct db db;

	if (index < 0) {
		o = lookup(name, gid, &u);
		if (o.status != NSS_STATUS_SUCCESS)
			return o;
		private = (struct role){u.text[NAME], u.uid};
		return fill_group(NULL, &private, nobody, gr, buf, len);
	}
	o = open_db(&db);
	if (o.status != NSS_STATUS_SUCCESS)
		return o;
	o = fill_group(&db, &roles[index], db.head + 36 + 8 * index, gr, buf, len);
	close_db(&db);
	return o;
}

EXPORT enum nss_status _nss_sallyport_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t len, int *errnop)
{
	int saved = errno;

	if (!sp_name_shaped(name))
		return finish(not_found, saved, errnop);
	return finish(give_user(name, 0, pw, buf, len), saved, errnop);
}

EXPORT enum nss_status _nss_sallyport_getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t len, int *errnop)
{
	int saved = errno;

	if (!is_uid(uid))
		return finish(not_found, saved, errnop);
	return finish(give_user(NULL, uid, pw, buf, len), saved, errnop);
}

EXPORT enum nss_status _nss_sallyport_getgrnam_r(const char *name, struct group *gr, char *buf, size_t len, int *errnop)
{
	int saved = errno;

	if (role_of(name, 0) < 0 && !sp_name_shaped(name))
		return finish(not_found, saved, errnop);
	return finish(give_group(name, 0, gr, buf, len), saved, errnop);
}

EXPORT enum nss_status _nss_sallyport_getgrgid_r(gid_t gid, struct group *gr, char *buf, size_t len, int *errnop)
{
	int saved = errno;

	if (role_of(NULL, gid) < 0 && !is_uid(gid))
		return finish(not_found, saved, errnop);
	return finish(give_group(NULL, gid, gr, buf, len), saved, errnop);
}

/* reserve makes room for the role groups in the caller's array, within its
 * limit (0: none). */
static struct outcome reserve(long used, long *size, gid_t **groups, long limit)
{
	long want = used + ROLES;
	gid_t *bigger;

	if (limit > 0 && want > limit)
		want = limit;
	if (want <= *size)
		return success;
	bigger = realloc(*groups, (size_t)want * sizeof(gid_t));
	if (bigger == NULL)
		return failed(ENOMEM);
	*groups = bigger;
	*size = want;
	return success;
}

EXPORT enum nss_status _nss_sallyport_initgroups_dyn(const char *name, gid_t skip, long *start, long *size,
					      gid_t **groups, long limit, int *errnop)
{
	struct outcome o = not_found;
	struct user u;
	int saved = errno, i;

	if (sp_name_shaped(name))
		o = lookup(name, 0, &u);
	if (o.status == NSS_STATUS_SUCCESS)
		o = reserve(*start, size, groups, limit);
	for (i = 0; o.status == NSS_STATUS_SUCCESS && i < ROLES; i++)
		if ((u.roles & (1U << i)) != 0 && roles[i].gid != skip && *start < *size)
			(*groups)[(*start)++] = roles[i].gid;
	return finish(o, saved, errnop);
}
