/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: what decodes must encode to the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static unsigned char out[UINT16_MAX];
	struct sp_frame f;

	if (len >= SP_FRAME_HEADER)
		(void)sp_frame_length(data, SP_LIMIT_PAM);
	if (sp_frame_read(&f, data, len) != 0)
		return 0;
	if (sp_frame_write(&f, out, sizeof(out)) != len || memcmp(out, data, len) != 0)
		abort();
	return 0;
}
