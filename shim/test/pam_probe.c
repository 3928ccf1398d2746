/* SPDX-License-Identifier: Apache-2.0
 * Makes PAM calls with service files of a private folder.
 *   pam_probe FOLDER SERVICE USER CALL...      CALL: auth setcred account open close
 * Prints a line per message and per call: "says TEXT", "CALL CODE". */
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int converse(int n, const struct pam_message **m, struct pam_response **out, void *data)
{
	int i;

	(void)data;
	*out = calloc((size_t)n, sizeof(**out));
	for (i = 0; i < n; i++) {
		printf("%s %s\n", m[i]->msg_style == PAM_PROMPT_ECHO_OFF ? "asks" : "says", m[i]->msg);
		if (m[i]->msg_style == PAM_PROMPT_ECHO_OFF)
			(*out)[i].resp = strdup("a password out of habit");
	}
	return PAM_SUCCESS;
}

static const char *name_of(int rc)
{
	static char number[16];

	switch (rc) {
	case PAM_SUCCESS:
		return "PAM_SUCCESS";
	case PAM_IGNORE:
		return "PAM_IGNORE";
	case PAM_AUTH_ERR:
		return "PAM_AUTH_ERR";
	case PAM_MAXTRIES:
		return "PAM_MAXTRIES";
	case PAM_PERM_DENIED:
		return "PAM_PERM_DENIED";
	case PAM_SESSION_ERR:
		return "PAM_SESSION_ERR";
	default:
		snprintf(number, sizeof(number), "%d", rc);
		return number;
	}
}

int main(int argc, char **argv)
{
	struct pam_conv conv = {converse, NULL};
	pam_handle_t *pamh = NULL;
	int i, rc = PAM_SUCCESS;

	if (argc < 5 || pam_start_confdir(argv[2], argv[3], &conv, argv[1], &pamh) != PAM_SUCCESS) {
		fprintf(stderr, "usage: pam_probe FOLDER SERVICE USER CALL...\n");
		return 1;
	}
	pam_set_item(pamh, PAM_RHOST, getenv("PROBE_RHOST") ? getenv("PROBE_RHOST") : "10.77.0.1");
	pam_set_item(pamh, PAM_TTY, "ssh");
	for (i = 4; i < argc; i++) {
		if (strcmp(argv[i], "auth") == 0)
			rc = pam_authenticate(pamh, 0);
		else if (strcmp(argv[i], "setcred") == 0)
			rc = pam_setcred(pamh, PAM_ESTABLISH_CRED);
		else if (strcmp(argv[i], "account") == 0)
			rc = pam_acct_mgmt(pamh, 0);
		else if (strcmp(argv[i], "open") == 0)
			rc = pam_open_session(pamh, 0);
		else if (strcmp(argv[i], "close") == 0)
			rc = pam_close_session(pamh, 0);
		printf("%s %s\n", argv[i], name_of(rc));
	}
	pam_end(pamh, rc);
	return 0;
}
