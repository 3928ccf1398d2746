/* SPDX-License-Identifier: Apache-2.0
 * The frame that the C parts and the agent exchange: "SP01", type u8, number of
 * fields u8, length of the whole frame u16, then per field u16 length and its
 * bytes. Numbers are big-endian. */
#ifndef SALLYPORT_FRAME_H
#define SALLYPORT_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum {
	SP_FRAME_HEADER = 8,
	SP_FRAME_FIELDS = 8,
	SP_LIMIT_PAM = 4096,
	SP_LIMIT_PRINCIPALS = 32768
};

enum sp_type {
	SP_PAM_REQUEST = 0x01,   /* phase, service, user, ruser, rhost, tty */
	SP_PAM_ALLOW = 0x02,     /* no field */
	SP_PAM_DENY = 0x03,      /* text */
	SP_PAM_PROMPT = 0x04,    /* text; to begin alone */
	SP_PAM_WAIT = 0x05,      /* no field; to check alone: ask again */
	SP_PRINC_REQUEST = 0x11, /* user, key id, serial, certificate in base64 */
	SP_PRINC_ONE = 0x12,     /* object id */
	SP_PRINC_NONE = 0x13     /* no field */
};

struct sp_field {
	const unsigned char *data;
	size_t len;
};

struct sp_frame {
	uint8_t type;
	uint8_t count;
	struct sp_field field[SP_FRAME_FIELDS];
};

/* sp_frame_add appends a string field; NULL is the empty string. 0 or -1. */
int sp_frame_add(struct sp_frame *frame, const char *value);

/* sp_frame_write encodes into out; returns the length, 0 if it exceeds limit. */
size_t sp_frame_write(const struct sp_frame *frame, unsigned char *out, size_t limit);

/* sp_frame_length reads a header; returns the length of the whole frame, 0 if
 * the header is not ours or names a length below the header or above limit. */
size_t sp_frame_length(const unsigned char header[SP_FRAME_HEADER], size_t limit);

/* sp_frame_read decodes exactly len bytes. Fields point into in. 0 or -1. */
int sp_frame_read(struct sp_frame *frame, const unsigned char *in, size_t len);

#endif
