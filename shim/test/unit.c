/* SPDX-License-Identifier: Apache-2.0
 * Names and frames against the shared vectors; the exchange against servers
 * that misbehave.   unit VECTORS */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "exchange.h"
#include "frame.h"
#include "name.h"
#include "sallyport.h"

static int failures;

static void expect(int condition, const char *what, const char *detail)
{
	if (condition)
		return;
	fprintf(stderr, "FAIL %s: %s\n", what, detail);
	failures++;
}

static FILE *must_open(const char *dir, const char *name)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	if (f == NULL) {
		perror(path);
		exit(1);
	}
	return f;
}

static int ours(const char *name)
{
	const char *domain = sp_name_domain(name);

	if (domain == NULL)
		return sp_name_is_guid(name);
	return strcmp(domain, "example.com") == 0 || strcmp(domain, "lab.example") == 0;
}

static void test_names(const char *dir)
{
	FILE *f = must_open(dir, "names.txt");
	char line[512], big[SP_NAME_MAX + 64];
	int count = 0;

	while (fgets(line, sizeof(line), f) != NULL) {
		char *name = strchr(line, ' ');

		if (line[0] == '#' || name == NULL)
			continue;
		*name++ = '\0';
		name[strcspn(name, "\n")] = '\0';
		expect(ours(name) == (strcmp(line, "ours") == 0), "name", name);
		count++;
	}
	fclose(f);
	expect(count > 40, "names", "the vectors are missing");
	memset(big, 'a', sizeof(big));
	big[10] = '@';
	big[SP_NAME_MAX + 1] = '\0';
	expect(!sp_name_shaped(big) && !sp_name_shaped(""), "name", "empty or 256 bytes long");
}

/* A vector is one line of vectors.json. */
static size_t text_of(const char *line, const char *key, char *out, size_t cap)
{
	char want[32];
	const char *p, *end;
	size_t n;

	snprintf(want, sizeof(want), "\"%s\": ", key);
	p = strstr(line, want);
	if (p == NULL)
		return 0;
	p += strlen(want);
	end = *p == '"' ? "\"" : *p == '[' ? "]" : ",}";
	p += *p == '"' || *p == '[';
	n = strcspn(p, end);
	if (n >= cap)
		n = cap - 1;
	memcpy(out, p, n);
	out[n] = '\0';
	return n;
}

static void check_fields(const struct sp_frame *f, char *list, const char *name)
{
	char *save = NULL, *hex = strtok_r(list, ", ", &save);
	unsigned i;

	for (i = 0; i < f->count; i++, hex = strtok_r(NULL, ", ", &save)) {
		size_t k, n;

		expect(hex != NULL, "fields", name);
		if (hex == NULL)
			return;
		n = strlen(hex);
		hex++; /* the quote */
		expect((n - 2) / 2 == f->field[i].len, "field length", name);
		for (k = 0; k < f->field[i].len; k++) {
			unsigned v = 0;

			sscanf(hex + 2 * k, "%2x", &v);
			expect(v == f->field[i].data[k], "field", name);
		}
	}
	expect(hex == NULL, "number of fields", name);
}

static void test_vectors(const char *dir)
{
	static char line[65536], list[65536];
	char name[128], value[32];
	static unsigned char data[65536], out[65536];
	FILE *f = must_open(dir, "vectors.json");
	int count = 0;

	while (fgets(line, sizeof(line), f) != NULL) {
		struct sp_frame frame;
		size_t len, limit;
		FILE *bin;
		int ok;

		if (text_of(line, "file", name, sizeof(name)) == 0)
			continue;
		bin = must_open(dir, name);
		len = fread(data, 1, sizeof(data), bin);
		fclose(bin);
		text_of(line, "limit", value, sizeof(value));
		limit = (size_t)strtoul(value, NULL, 10);
		text_of(line, "valid", value, sizeof(value));
		ok = len >= SP_FRAME_HEADER && sp_frame_length(data, limit) != 0 && sp_frame_read(&frame, data, len) == 0;
		expect(ok == (strcmp(value, "true") == 0), "vector", name);
		count++;
		if (!ok)
			continue;
		text_of(line, "type", value, sizeof(value));
		expect(frame.type == strtoul(value, NULL, 10), "type", name);
		text_of(line, "fields", list, sizeof(list));
		check_fields(&frame, list, name);
		expect(sp_frame_write(&frame, out, limit) == len && memcmp(out, data, len) == 0, "encode", name);
		expect(sp_frame_write(&frame, out, len - 1) == 0, "encode above the limit", name);
	}
	fclose(f);
	expect(count > 20, "vectors", "are missing");
}

static void test_add(void)
{
	struct sp_frame f = {SP_PAM_REQUEST, 0, {{NULL, 0}}};
	int i;

	for (i = 0; i < SP_FRAME_FIELDS; i++)
		expect(sp_frame_add(&f, NULL) == 0, "add", "eight fields fit");
	expect(sp_frame_add(&f, "x") == -1, "add", "a ninth does not");
}

/* What a server of the test does with its one connection. */
enum behaviour { ABSENT, ANSWER, BYTEWISE, CLOSE, SILENT, GARBAGE, HALF, TOO_LONG, DEAF };

static void behave(int fd, enum behaviour b)
{
	static const unsigned char deny[] = "SP01\003\001\0\015\0\003no\n";
	unsigned char in[64];
	size_t i;

	if (b != DEAF && read(fd, in, sizeof(in)) < 0)
		_exit(1);
	switch (b) {
	case ANSWER:
		_exit(write(fd, deny, sizeof(deny) - 1) < 0);
	case BYTEWISE:
		for (i = 0; i < sizeof(deny) - 1; i++)
			if (write(fd, deny + i, 1) != 1)
				_exit(1);
		_exit(0);
	case GARBAGE:
		_exit(write(fd, "HTTP/1.1 200 OK\r\n\r\n", 19) < 0);
	case HALF:
		_exit(write(fd, deny, 10) < 0);
	case TOO_LONG:
		_exit(write(fd, "SP01\003\001\377\377", 8) < 0);
	case SILENT:
	case DEAF:
		pause();
		_exit(0);
	case ABSENT:
	case CLOSE:
		_exit(0);
	}
}

static int listening(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = SALLYPORT_PAM_SOCKET};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(SALLYPORT_PAM_SOCKET);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, 0) != 0) {
		perror(SALLYPORT_PAM_SOCKET);
		exit(1);
	}
	return fd;
}

static long elapsed_ms(const struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

static void test_exchange(enum behaviour b, size_t send, enum sp_fault want, const char *what)
{
	static unsigned char buf[1 << 20];
	int server = -1, before, after;
	struct timespec start;
	pid_t child = -1;
	enum sp_fault got;
	size_t len = send;

	unlink(SALLYPORT_PAM_SOCKET);
	if (b != ABSENT) {
		server = listening();
		child = fork();
		if (child == 0) {
			int fd = accept(server, NULL, NULL);

			behave(fd, b);
		}
	}
	before = dup(0);
	close(before);
	memset(buf, 'x', send);
	clock_gettime(CLOCK_MONOTONIC, &start);
	got = sp_exchange(SALLYPORT_PAM_SOCKET, buf, send > SP_LIMIT_PAM ? send : SP_LIMIT_PAM, &len);
	expect(got == want, what, sp_fault_text(got));
	expect(elapsed_ms(&start) < SALLYPORT_TIMEOUT_MS + 500, what, "took too long");
	if (got == SP_OK)
		expect(len == 13 && memcmp(buf + 10, "no\n", 3) == 0, what, "another answer");
	after = dup(0);
	close(after);
	expect(before == after, what, "a descriptor is left open");
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	if (server >= 0)
		close(server);
}

/* A backlog that nobody empties: connect answers EAGAIN. */
static void test_full_backlog(void)
{
	unsigned char buf[64] = {0};
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = SALLYPORT_PAM_SOCKET};
	int server = listening(), waiting[8], i;
	size_t len = 8;
	enum sp_fault f;

	for (i = 0; i < 8; i++) {
		waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)!connect(waiting[i], (struct sockaddr *)&addr, sizeof(addr));
	}
	f = sp_exchange(SALLYPORT_PAM_SOCKET, buf, sizeof(buf), &len);
	expect(f == SP_FAULT_TIMEOUT, "full backlog", sp_fault_text(f));
	for (i = 0; i < 8; i++)
		close(waiting[i]);
	close(server);
}

/* The credentials of a listening socket are those of the process that called
 * listen(2), so a child that has dropped to another uid stands for a stranger. */
static void test_foreign_server(void)
{
	unsigned char buf[64] = {0};
	int fds[2], status = 0;
	size_t len = 8;
	enum sp_fault f;
	pid_t child;
	char c;

	if (geteuid() != 0) {
		fprintf(stderr, "unit: the foreign server needs root\n");
		failures++;
		return;
	}
	if (pipe(fds) != 0)
		exit(1);
	child = fork();
	if (child == 0) {
		int fd = listening();

		if (setresuid(4242424, 4242424, 4242424) != 0 || listen(fd, 1) != 0 || write(fds[1], "r", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	if (read(fds[0], &c, 1) != 1)
		exit(1);
	f = sp_exchange(SALLYPORT_PAM_SOCKET, buf, sizeof(buf), &len);
	expect(f == SP_FAULT_PEER, "foreign server", sp_fault_text(f));
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	close(fds[0]);
	close(fds[1]);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: unit VECTORS\n");
		return 1;
	}
	test_names(argv[1]);
	test_vectors(argv[1]);
	test_add();
	test_exchange(ABSENT, 8, SP_FAULT_CONNECT, "no socket");
	test_exchange(ANSWER, 8, SP_OK, "an answer");
	test_exchange(BYTEWISE, 8, SP_OK, "an answer byte by byte");
	test_exchange(CLOSE, 8, SP_FAULT_IO, "closed without an answer");
	test_exchange(HALF, 8, SP_FAULT_IO, "half an answer");
	test_exchange(GARBAGE, 8, SP_FAULT_FRAME, "another protocol");
	test_exchange(TOO_LONG, 8, SP_FAULT_FRAME, "an answer above the limit");
	test_exchange(SILENT, 8, SP_FAULT_TIMEOUT, "no answer");
	test_exchange(DEAF, 1 << 20, SP_FAULT_TIMEOUT, "a server that does not read");
	test_full_backlog();
	test_foreign_server();
	unlink(SALLYPORT_PAM_SOCKET);
	if (failures == 0)
		printf("unit: names, frames and exchanges are right\n");
	return failures != 0;
}
