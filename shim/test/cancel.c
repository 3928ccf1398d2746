/* SPDX-License-Identifier: Apache-2.0
 * A thread that is cancelled while it asks leaves no descriptor behind: the
 * calls that would end it there are wrapped and cancel it first.
 *   cancel GOLDEN-FILE    (linked with --wrap=pread,--wrap=poll) */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "calls.h"
#include "exchange.h"
#include "sallyport.h"

ssize_t __real_pread(int fd, void *buf, size_t len, off_t at);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t at);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t at)
{
	pthread_cancel(pthread_self());
	return __real_pread(fd, buf, len, at);
}

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	pthread_cancel(pthread_self());
	return __real_poll(p, n, timeout);
}

static int completed;

static void *names(void *arg)
{
	char buf[1024];
	struct passwd pw;
	struct group gr;
	int err;

	completed = (arg == NULL ? _nss_sallyport_getpwnam_r("alice@example.com", &pw, buf, sizeof(buf), &err)
				 : _nss_sallyport_getgrnam_r(SP_GROUP_ADMINS, &gr, buf, sizeof(buf), &err)) == NSS_STATUS_SUCCESS;
	pthread_testcancel();
	return NULL;
}

static void *exchange(void *arg)
{
	unsigned char buf[64] = "SP01";
	size_t len = 8;

	(void)arg;
	completed = sp_exchange(SALLYPORT_PAM_SOCKET, buf, sizeof(buf), &len) == SP_FAULT_TIMEOUT;
	pthread_testcancel();
	return NULL;
}

static int lowest(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* run: the call came to its end, the thread was cancelled after it, and no
 * descriptor is left. */
static int run(const char *what, void *(*body)(void *), void *arg)
{
	int before = lowest();
	void *result = NULL;
	pthread_t t;

	completed = 0;
	if (pthread_create(&t, NULL, body, arg) != 0 || pthread_join(t, &result) != 0)
		return 1;
	if (lowest() != before || result != PTHREAD_CANCELED || !completed) {
		fprintf(stderr, "FAIL %s: a cancelled thread left a descriptor, or was not cancelled\n", what);
		return 1;
	}
	return 0;
}

static int prepare(const char *golden)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = SALLYPORT_PAM_SOCKET};
	static unsigned char b[65536];
	FILE *in = fopen(golden, "rb");
	int fd = open(SALLYPORT_NSS_PATH, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), server;
	size_t len;

	if (in == NULL || fd < 0)
		return -1;
	len = fread(b, 1, sizeof(b), in);
	fclose(in);
	if (fchmod(fd, 0644) != 0 || write(fd, b, len) != (ssize_t)len)
		return -1;
	close(fd);
	unlink(SALLYPORT_PAM_SOCKET);
	server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return bind(server, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(server, 4) != 0 ? -1 : server;
}

int main(int argc, char **argv)
{
	static int groups;
	int failures, server = argc == 2 ? prepare(argv[1]) : -1;

	if (server < 0) {
		fprintf(stderr, "usage: cancel GOLDEN-FILE\n");
		return 1;
	}
	failures = run("a user", names, NULL) + run("a group", names, &groups) + run("the agent", exchange, NULL);
	close(server);
	unlink(SALLYPORT_PAM_SOCKET);
	unlink(SALLYPORT_NSS_PATH);
	if (failures == 0)
		printf("cancel: no cancelled thread leaves anything\n");
	return failures != 0;
}
