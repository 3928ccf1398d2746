/* SPDX-License-Identifier: Apache-2.0
 * Times PAM's account decision, in a new process each time as sshd and sudo do.
 *   account SERVICE USER COUNT PAUSE FOLDER...    FOLDER: a copy of /etc/pam.d
 * Round by round, each folder once, with PAUSE milliseconds before each; prints "FOLDER CODE START ACCOUNT": PAM's
 * code, nanoseconds of pam_start with pam_acct_mgmt, and of a second
 * pam_acct_mgmt on the same handle. */
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct result {
	int code, again;
	long start, account;
};

static int converse(int n, const struct pam_message **m, struct pam_response **out, void *data)
{
	int i;

	(void)data;
	*out = calloc((size_t)n, sizeof(**out));
	for (i = 0; i < n; i++)
		fprintf(stderr, "account: %s\n", m[i]->msg);
	return *out == NULL ? PAM_BUF_ERR : PAM_SUCCESS;
}

static long since(const struct timespec *a)
{
	struct timespec b;

	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a->tv_sec) * 1000000000L + (b.tv_nsec - a->tv_nsec);
}

static struct result measure(const char *service, const char *user, const char *folder)
{
	struct pam_conv conv = {converse, NULL};
	struct result r = {PAM_ABORT, PAM_ABORT, 0, 0};
	struct timespec a;
	pam_handle_t *pamh = NULL;

	clock_gettime(CLOCK_MONOTONIC, &a);
	r.code = pam_start_confdir(service, user, &conv, folder, &pamh);
	if (r.code != PAM_SUCCESS)
		return r;
	pam_set_item(pamh, PAM_RUSER, user);
	r.code = pam_acct_mgmt(pamh, 0);
	r.start = since(&a);
	clock_gettime(CLOCK_MONOTONIC, &a);
	r.again = pam_acct_mgmt(pamh, 0);
	r.account = since(&a);
	pam_end(pamh, r.code);
	return r;
}

static int round_of(const char *service, const char *user, const char *folder)
{
	struct result r;
	int p[2], status;
	pid_t child;

	if (pipe(p) != 0 || (child = fork()) < 0)
		return 1;
	if (child == 0) {
		r = measure(service, user, folder);
		_exit(write(p[1], &r, sizeof(r)) == (ssize_t)sizeof(r) ? 0 : 1);
	}
	close(p[1]);
	if (read(p[0], &r, sizeof(r)) != (ssize_t)sizeof(r))
		return 1;
	close(p[0]);
	if (waitpid(child, &status, 0) != child || r.code != r.again)
		return 1;
	printf("%s %d %ld %ld\n", folder, r.code, r.start, r.account);
	return 0;
}

int main(int argc, char **argv)
{
	struct timespec pause = {0, 0};
	long count, i;
	int f;

	if (argc < 6) {
		fprintf(stderr, "usage: account SERVICE USER COUNT PAUSE FOLDER...\n");
		return 2;
	}
	count = strtol(argv[3], NULL, 10);
	pause.tv_nsec = strtol(argv[4], NULL, 10) % 1000 * 1000000L;
	for (i = 0; i < count; i++)
		for (f = 5; f < argc; f++) {
			(void)nanosleep(&pause, NULL);
			if (round_of(argv[1], argv[2], argv[f]) != 0)
				return 1;
		}
	return 0;
}
