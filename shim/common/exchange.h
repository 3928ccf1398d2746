/* SPDX-License-Identifier: Apache-2.0
 * One bounded request and answer over a unix stream socket. */
#ifndef SALLYPORT_EXCHANGE_H
#define SALLYPORT_EXCHANGE_H

#include <stddef.h>

enum sp_fault {
	SP_OK,
	SP_FAULT_CONNECT, /* no socket, nobody listens, or no permission */
	SP_FAULT_PEER,    /* somebody else than the trusted uid listens */
	SP_FAULT_TIMEOUT,
	SP_FAULT_IO,
	SP_FAULT_FRAME /* the answer is not a frame of ours */
};

/* sp_exchange sends the *len bytes at buf to the socket at path and replaces
 * them by the answer, at most cap bytes. All of it takes at most
 * SALLYPORT_TIMEOUT_MS on the monotonic clock. Raises no signal and leaves no
 * descriptor behind, also when the thread is cancelled. On a fault the content of buf means nothing. */
enum sp_fault sp_exchange(const char *path, unsigned char *buf, size_t cap, size_t *len);

/* sp_fault_text names a fault for logs. */
const char *sp_fault_text(enum sp_fault fault);

#endif
