/* SPDX-License-Identifier: Apache-2.0
 * Runs a libFuzzer target without clang: every file of the corpus as it is, then
 * N mutations of them from a fixed seed.
 *   fuzz-x N FILE... */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { FILES = 512, LARGEST = 65536 };

static uint64_t state = 0x5a11790017c0ffeeU;

/* xorshift64* */
static uint32_t next(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)((state * 2685821657736338717U) >> 32);
}

static size_t mutate(uint8_t *b, size_t len)
{
	static const uint8_t edges[] = {0, 1, 7, 8, 27, 28, 63, 64, 0x7f, 0x80, 0xfe, 0xff};
	uint32_t rounds = 1 + next() % 6;

	while (rounds-- > 0 && len > 0) {
		size_t at = next() % len;

		/* Headers and tables are where the danger is: half of all hits go there. */
		if (next() % 2 == 0 && len > 160)
			at = next() % 160;
		switch (next() % 6) {
		case 0:
			b[at] ^= (uint8_t)(1U << (next() % 8));
			break;
		case 1:
			b[at] = edges[next() % sizeof(edges)];
			break;
		case 2:
			b[at] = (uint8_t)next();
			break;
		case 3:
			len = at;
			break;
		case 4:
			if (len < LARGEST)
				b[len++] = (uint8_t)next();
			break;
		default:
			if (at + 4 <= len) {
				uint32_t v = next() % (uint32_t)(len + 64);

				b[at] = (uint8_t)(v >> 24);
				b[at + 1] = (uint8_t)(v >> 16);
				b[at + 2] = (uint8_t)(v >> 8);
				b[at + 3] = (uint8_t)v;
			}
		}
	}
	return len;
}

int main(int argc, char **argv)
{
	static uint8_t *file[FILES], work[LARGEST];
	static size_t size[FILES];
	long n = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
	uint32_t files = 0;
	int i;

	for (i = 2; i < argc && files < FILES; i++) {
		FILE *f = fopen(argv[i], "rb");

		if (f == NULL || (file[files] = malloc(LARGEST)) == NULL) {
			fprintf(stderr, "cannot read %s\n", argv[i]);
			return 1;
		}
		size[files] = fread(file[files], 1, LARGEST, f);
		fclose(f);
		/* A copy of the exact size, so that ASan sees a read behind it. */
		uint8_t *exact = malloc(size[files] + (size[files] == 0));
		memcpy(exact, file[files], size[files]);
		LLVMFuzzerTestOneInput(exact, size[files]);
		free(exact);
		files++;
	}
	if (files == 0) {
		fprintf(stderr, "usage: %s N FILE...\n", argv[0]);
		return 1;
	}
	for (long k = 0; k < n; k++) {
		uint32_t pick = next() % files;
		size_t len = size[pick];
		uint8_t *exact;

		memcpy(work, file[pick], len);
		len = mutate(work, len);
		exact = malloc(len + (len == 0));
		memcpy(exact, work, len);
		LLVMFuzzerTestOneInput(exact, len);
		free(exact);
	}
	while (files-- > 0)
		free(file[files]);
	printf("%s: corpus and %ld mutations\n", strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0], n);
	return 0;
}
