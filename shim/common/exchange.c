/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"
#include "sallyport.h"

/* Milliseconds on the monotonic clock. */
static int64_t now_ms(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_MONOTONIC, &ts) != 0)
		return INT64_MAX / 2; /* every deadline has passed */
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* wait_until blocks until fd is ready for events or the deadline has passed.
 * A negative fd only waits, for at most 10 ms. */
static enum sp_fault wait_until(int fd, short events, int64_t deadline)
{
	for (;;) {
		struct pollfd p = {fd, events, 0};
		int64_t left = deadline - now_ms();
		int n;

		if (left <= 0)
			return SP_FAULT_TIMEOUT;
		if (fd < 0 && left > 10)
			left = 10;
		n = poll(&p, 1, (int)left);
		if (n > 0 || (n == 0 && fd < 0))
			return SP_OK;
		if (n < 0 && errno != EINTR)
			return SP_FAULT_IO;
	}
}

/* A full backlog answers EAGAIN at once on a non-blocking unix socket and
 * cannot be polled for, so it is asked again until the deadline. */
static enum sp_fault connect_until(int fd, const char *path, int64_t deadline)
{
	struct sockaddr_un addr;
	size_t n = strlen(path);

	memset(&addr, 0, sizeof(addr));
	addr.sun_family = AF_UNIX;
	if (n >= sizeof(addr.sun_path))
		return SP_FAULT_CONNECT;
	memcpy(addr.sun_path, path, n);
	while (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
		if (errno != EAGAIN && errno != EINTR)
			return SP_FAULT_CONNECT;
		if (wait_until(-1, 0, deadline) != SP_OK)
			return SP_FAULT_TIMEOUT;
	}
	return SP_OK;
}

static enum sp_fault check_peer(int fd)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0 || n != sizeof(cred))
		return SP_FAULT_PEER;
	return cred.uid == SALLYPORT_TRUSTED_UID ? SP_OK : SP_FAULT_PEER;
}

static enum sp_fault send_all(int fd, const unsigned char *buf, size_t len, int64_t deadline)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = send(fd, buf + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
		enum sp_fault f;

		if (n > 0) {
			at += (size_t)n;
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return SP_FAULT_IO;
		f = wait_until(fd, POLLOUT, deadline);
		if (f != SP_OK)
			return f;
	}
	return SP_OK;
}

static enum sp_fault receive_all(int fd, unsigned char *buf, size_t len, int64_t deadline)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = recv(fd, buf + at, len - at, MSG_DONTWAIT);
		enum sp_fault f;

		if (n > 0) {
			at += (size_t)n;
			continue;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return SP_FAULT_IO;
		f = wait_until(fd, POLLIN, deadline);
		if (f != SP_OK)
			return f;
	}
	return SP_OK;
}

static enum sp_fault converse(int fd, const char *path, unsigned char *buf, size_t cap, size_t *len)
{
	int64_t deadline = now_ms() + SALLYPORT_TIMEOUT_MS;
	enum sp_fault f;
	size_t total;

	if ((f = connect_until(fd, path, deadline)) != SP_OK)
		return f;
	if ((f = check_peer(fd)) != SP_OK)
		return f;
	if ((f = send_all(fd, buf, *len, deadline)) != SP_OK)
		return f;
	if ((f = receive_all(fd, buf, SP_FRAME_HEADER, deadline)) != SP_OK)
		return f;
	total = sp_frame_length(buf, cap);
	if (total == 0)
		return SP_FAULT_FRAME;
	*len = total;
	return receive_all(fd, buf + SP_FRAME_HEADER, total - SP_FRAME_HEADER, deadline);
}

enum sp_fault sp_exchange(const char *path, unsigned char *buf, size_t cap, size_t *len)
{
	enum sp_fault f = SP_FAULT_IO;
	int fd, cancel;

	if (cap < SP_FRAME_HEADER || *len > cap)
		return SP_FAULT_FRAME;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0) {
		f = converse(fd, path, buf, cap, len);
		close(fd);
	}
	(void)pthread_setcancelstate(cancel, NULL);
	return f;
}

const char *sp_fault_text(enum sp_fault fault)
{
	switch (fault) {
	case SP_OK:
		return "no fault";
	case SP_FAULT_CONNECT:
		return "cannot connect to the agent";
	case SP_FAULT_PEER:
		return "the process behind the socket is not the agent";
	case SP_FAULT_TIMEOUT:
		return "the agent did not answer in time";
	case SP_FAULT_IO:
		return "the agent closed the connection without an answer";
	case SP_FAULT_FRAME:
		return "the agent's answer cannot be read";
	}
	return "unknown fault";
}
