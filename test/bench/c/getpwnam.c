/* SPDX-License-Identifier: Apache-2.0
 * Times getpwnam_r, one lookup at a time.
 *   getpwnam NAMES COUNT     NAMES: a file with a name a line
 * Prints the nanoseconds of every lookup. Every name is looked up once before,
 * untimed, and must be found; names that begin with '!' must not be, and the
 * '!' is not a part of them. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NAMES_MAX = 4096, LINE = 300 };

static char names[NAMES_MAX][LINE];
static size_t known;

static int load(const char *path)
{
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return -1;
	while (known < NAMES_MAX && fgets(names[known], LINE, f) != NULL) {
		names[known][strcspn(names[known], "\n")] = '\0';
		if (names[known][0] != '\0')
			known++;
	}
	fclose(f);
	return known == 0 ? -1 : 0;
}

/* look returns nanoseconds, or -1 where the answer is not the expected one. */
static long look(const char *name)
{
	static char buf[4096];
	struct passwd pw, *got = NULL;
	struct timespec a, b;
	int absent = name[0] == '!';

	clock_gettime(CLOCK_MONOTONIC, &a);
	(void)getpwnam_r(name + absent, &pw, buf, sizeof(buf), &got);
	clock_gettime(CLOCK_MONOTONIC, &b);
	if ((got == NULL) != absent || (got != NULL && strcmp(got->pw_name, name) != 0))
		return -1;
	return (b.tv_sec - a.tv_sec) * 1000000000L + (b.tv_nsec - a.tv_nsec);
}

int main(int argc, char **argv)
{
	long count, i, ns;
	size_t n;

	if (argc != 3 || load(argv[1]) != 0) {
		fprintf(stderr, "usage: getpwnam NAMES COUNT\n");
		return 2;
	}
	for (n = 0; n < known; n++)
		if (look(names[n]) < 0) {
			fprintf(stderr, "getpwnam: the answer for %s is not the expected one\n", names[n]);
			return 1;
		}
	count = strtol(argv[2], NULL, 10);
	for (i = 0; i < count; i++) {
		ns = look(names[(size_t)i % known]);
		if (ns < 0)
			return 1;
		printf("%ld\n", ns);
	}
	return 0;
}
