/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include <string.h>

static const unsigned char magic[4] = {'S', 'P', '0', '1'};

static size_t get16(const unsigned char *p)
{
	return ((size_t)p[0] << 8) | p[1];
}

static void put16(unsigned char *p, size_t v)
{
	p[0] = (unsigned char)((v >> 8) & 0xff);
	p[1] = (unsigned char)(v & 0xff);
}

int sp_frame_add(struct sp_frame *frame, const char *value)
{
	if (frame->count >= SP_FRAME_FIELDS)
		return -1;
	if (value == NULL)
		value = "";
	frame->field[frame->count].data = (const unsigned char *)value;
	frame->field[frame->count].len = strlen(value);
	frame->count++;
	return 0;
}

size_t sp_frame_write(const struct sp_frame *frame, unsigned char *out, size_t limit)
{
	size_t at = SP_FRAME_HEADER, i;

	if (limit > UINT16_MAX)
		limit = UINT16_MAX;
	if (frame->count > SP_FRAME_FIELDS || limit < at)
		return 0;
	for (i = 0; i < frame->count; i++) {
		const struct sp_field *f = &frame->field[i];

		if (f->len > limit || limit - at < 2 || limit - at - 2 < f->len)
			return 0;
		put16(out + at, f->len);
		if (f->len > 0)
			memcpy(out + at + 2, f->data, f->len);
		at += 2 + f->len;
	}
	memcpy(out, magic, sizeof(magic));
	out[4] = frame->type;
	out[5] = frame->count;
	put16(out + 6, at);
	return at;
}

size_t sp_frame_length(const unsigned char header[SP_FRAME_HEADER], size_t limit)
{
	size_t total = get16(header + 6);

	if (memcmp(header, magic, sizeof(magic)) != 0)
		return 0;
	if (total < SP_FRAME_HEADER || total > limit)
		return 0;
	return total;
}

int sp_frame_read(struct sp_frame *frame, const unsigned char *in, size_t len)
{
	size_t at = SP_FRAME_HEADER, i;

	memset(frame, 0, sizeof(*frame));
	if (len < SP_FRAME_HEADER || sp_frame_length(in, len) != len)
		return -1;
	if (in[5] > SP_FRAME_FIELDS)
		return -1;
	for (i = 0; i < in[5]; i++) {
		size_t n;

		if (len - at < 2)
			return -1;
		n = get16(in + at);
		at += 2;
		if (len - at < n)
			return -1;
		frame->field[i].data = in + at;
		frame->field[i].len = n;
		at += n;
	}
	if (at != len)
		return -1;
	frame->type = in[4];
	frame->count = in[5];
	return 0;
}
