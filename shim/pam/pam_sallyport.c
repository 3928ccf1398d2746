/* SPDX-License-Identifier: Apache-2.0
 *
 * PAM module: asks the agent on this machine whether one of our people may
 * enter, and tells it when a session begins and ends.
 *
 *   call            name is not ours   name is ours
 *   authenticate    PAM_IGNORE         PAM_SUCCESS, or a sentence and PAM_MAXTRIES
 *   setcred         PAM_IGNORE         PAM_SUCCESS
 *   acct_mgmt       PAM_IGNORE         PAM_SUCCESS, or a sentence and PAM_PERM_DENIED
 *   open_session    PAM_IGNORE         PAM_SUCCESS, or a sentence and PAM_SESSION_ERR
 *   close_session   PAM_IGNORE         PAM_SUCCESS
 *
 * PAM_IGNORE for other names is decided from the name alone: no contact, no
 * file, so that local people never notice an agent that is away or hung. For
 * ours everything but a readable "allow" is a denial. PAM_NEW_AUTHTOK_REQD is
 * never returned: sshd lets the person in and only then asks for a password.
 *
 * To authenticate is to approve this login on a web page (the preview version of
 * the extension): the agent says what to show, the person presses Enter, and the
 * agent is asked again until it knows. Nothing that is typed is looked at. Failure
 * is PAM_MAXTRIES, so that sshd does not begin anew on the same connection.
 */
#define PAM_SM_AUTH
#define PAM_SM_ACCOUNT
#define PAM_SM_SESSION
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

#include "exchange.h"
#include "frame.h"
#include "name.h"
#include "sallyport.h"

#define EXPORT __attribute__((visibility("default")))

static const char away[] =
	"Sallyport: the login service on this machine is not available; "
	"ask an administrator of the machine to run 'sally agent status'.";
static const char unreadable[] = "Sallyport: access denied.";

/* How often the agent is asked at most in one authentication; it lets each
 * question wait, and sshd ends what takes longer than its LoginGraceTime. */
enum { TEXT_MAX = 1024, ROUNDS_MAX = 2000 };
enum verdict { DENIED, ALLOWED, PROMPTED, WAITING };
enum whose { OTHERS, OURS, UNKNOWN };

/* listed reports whether domain is one of the comma-separated list. */
static int listed(const char *list, const char *domain)
{
	size_t want = strlen(domain);

	for (;;) {
		size_t n = strcspn(list, ",");

		if (n == want && memcmp(list, domain, n) == 0)
			return 1;
		if (list[n] == '\0')
			return 0;
		list += n + 1;
	}
}

/* classify decides by the shape of the name and the argument domains=a,b. A
 * line without that argument, or with any other, is a fault of the machine's
 * configuration: then every name of our shape is UNKNOWN, which is denied, and
 * all others stay OTHERS. */
static enum whose classify(const char *user, int argc, const char **argv)
{
	const char *domain = sp_name_domain(user);

	if (domain == NULL && !sp_name_is_guid(user))
		return OTHERS;
	if (argc != 1 || strncmp(argv[0], "domains=", 8) != 0 || argv[0][8] == '\0')
		return UNKNOWN;
	return domain == NULL || listed(argv[0] + 8, domain) ? OURS : OTHERS;
}

/* whose finds the user. PAM_SUCCESS and *who, or the code to return. */
static int whose(pam_handle_t *pamh, int argc, const char **argv, const char **user, enum whose *who)
{
	int rc = pam_get_user(pamh, user, NULL);

	if (rc == PAM_CONV_AGAIN)
		return PAM_INCOMPLETE;
	if (rc != PAM_SUCCESS || *user == NULL)
		return PAM_USER_UNKNOWN;
	*who = classify(*user, argc, argv);
	if (*who == UNKNOWN)
		pam_syslog(pamh, LOG_ERR, "the line needs exactly one argument: domains=NAME[,NAME]");
	return PAM_SUCCESS;
}

static void say(pam_handle_t *pamh, int flags, const char *text)
{
	if ((flags & (int)PAM_SILENT) == 0)
		(void)pam_error(pamh, "%s", text);
}

static const char *item(const pam_handle_t *pamh, int type)
{
	const void *value = NULL;

	if (pam_get_item(pamh, type, &value) != PAM_SUCCESS)
		return NULL;
	return value;
}

/* readable copies a text of the agent's if it is printable ASCII and line feeds,
 * at most TEXT_MAX bytes; 0 if it is not. */
static int readable(const struct sp_field *f, char *text)
{
	size_t i;

	if (f->len == 0 || f->len > TEXT_MAX)
		return 0;
	for (i = 0; i < f->len; i++) {
		if (f->data[i] != '\n' && (f->data[i] < 0x20 || f->data[i] > 0x7e))
			return 0;
		text[i] = (char)f->data[i];
	}
	text[f->len] = '\0';
	return 1;
}

static enum sp_fault exchange(const pam_handle_t *pamh, const char *phase, const char *user,
			      unsigned char *buf, struct sp_frame *answer)
{
	struct sp_frame request = {SP_PAM_REQUEST, 0, {{NULL, 0}}};
	enum sp_fault fault;
	size_t len;

	if (sp_frame_add(&request, phase) != 0 || sp_frame_add(&request, item(pamh, PAM_SERVICE)) != 0 ||
	    sp_frame_add(&request, user) != 0 || sp_frame_add(&request, item(pamh, PAM_RUSER)) != 0 ||
	    sp_frame_add(&request, item(pamh, PAM_RHOST)) != 0 || sp_frame_add(&request, item(pamh, PAM_TTY)) != 0)
		return SP_FAULT_FRAME;
	len = sp_frame_write(&request, buf, SP_LIMIT_PAM);
	if (len == 0)
		return SP_FAULT_FRAME;
	fault = sp_exchange(SALLYPORT_PAM_SOCKET, buf, SP_LIMIT_PAM, &len);
	if (fault == SP_OK && sp_frame_read(answer, buf, len) != 0)
		return SP_FAULT_FRAME;
	return fault;
}

/* ask puts one phase to the agent. ALLOWED only for a well-formed allow; PROMPTED,
 * with the prompt, and WAITING only where prompt is given. */
static enum verdict ask(pam_handle_t *pamh, int flags, const char *phase, const char *user, char *prompt)
{
	unsigned char buf[SP_LIMIT_PAM];
	char text[TEXT_MAX + 1];
	struct sp_frame answer;
	enum sp_fault fault = exchange(pamh, phase, user, buf, &answer);

	if (fault == SP_OK && answer.type == SP_PAM_ALLOW && answer.count == 0)
		return ALLOWED;
	if (fault == SP_OK && prompt != NULL && answer.type == SP_PAM_WAIT && answer.count == 0)
		return WAITING;
	if (fault == SP_OK && prompt != NULL && answer.type == SP_PAM_PROMPT && answer.count == 1 && readable(&answer.field[0], prompt))
		return PROMPTED;
	if (fault == SP_OK && answer.type == SP_PAM_DENY && answer.count == 1) {
		say(pamh, flags, readable(&answer.field[0], text) ? text : unreadable);
		return DENIED;
	}
	if (fault == SP_OK)
		fault = SP_FAULT_FRAME;
	pam_syslog(pamh, LOG_ERR, "%s of %s: %s", phase, user, sp_fault_text(fault));
	say(pamh, flags, away);
	return DENIED;
}

/* decide is what account and session share. */
static int decide(pam_handle_t *pamh, int flags, int argc, const char **argv, const char *phase)
{
	const char *user = NULL;
	enum whose who = UNKNOWN;
	int rc = whose(pamh, argc, argv, &user, &who);

	if (rc != PAM_SUCCESS)
		return rc;
	if (who == OTHERS)
		return PAM_IGNORE;
	if (who == OURS && ask(pamh, flags, phase, user, NULL) == ALLOWED)
		return PAM_SUCCESS;
	if (who == UNKNOWN)
		say(pamh, flags, away);
	return PAM_PERM_DENIED;
}

/* sudo passes PAM_SILENT always; the sentence is the reason of a refusal and is
 * said all the same. */
EXPORT int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	int saved = errno, rc = decide(pamh, flags & ~(int)PAM_SILENT, argc, argv, "account");

	errno = saved;
	return rc;
}

EXPORT int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	int saved = errno, rc = decide(pamh, flags, argc, argv, "open");

	errno = saved;
	return rc == PAM_SUCCESS || rc == PAM_IGNORE ? rc : PAM_SESSION_ERR;
}

EXPORT int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	int saved = errno, rc = decide(pamh, flags | (int)PAM_SILENT, argc, argv, "close");

	errno = saved;
	return rc == PAM_IGNORE ? PAM_IGNORE : PAM_SUCCESS;
}

/* enter shows the prompt and waits for Enter. What was typed before it may be a
 * password out of habit: it is overwritten, not read. */
static int enter(pam_handle_t *pamh, const char *text)
{
	char *typed = NULL;
	volatile char *p;
	int rc = pam_prompt(pamh, PAM_PROMPT_ECHO_OFF, &typed, "%s", text);

	for (p = typed; p != NULL && *p != '\0'; p++)
		*p = '\0';
	free(typed);
	return rc == PAM_SUCCESS;
}

/* approve has the person approve the login: one prompt, then questions until the
 * agent knows. An allow counts only after the prompt. */
static int approve(pam_handle_t *pamh, int flags, const char *user)
{
	char text[TEXT_MAX + 1];
	int i;

	if (ask(pamh, flags, "begin", user, text) != PROMPTED || !enter(pamh, text))
		return PAM_MAXTRIES;
	for (i = 0; i < ROUNDS_MAX; i++) {
		switch (ask(pamh, flags, "check", user, text)) {
		case ALLOWED:
			return PAM_SUCCESS;
		case WAITING:
			break;
		case PROMPTED:
		case DENIED:
			return PAM_MAXTRIES;
		}
	}
	return PAM_MAXTRIES;
}

EXPORT int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	const char *user = NULL;
	enum whose who = UNKNOWN;
	int saved = errno, rc = whose(pamh, argc, argv, &user, &who);

	flags &= ~(int)PAM_SILENT;
	if (rc == PAM_SUCCESS && who == OTHERS)
		rc = PAM_IGNORE;
	else if (rc == PAM_SUCCESS && who == OURS)
		rc = approve(pamh, flags, user);
	else if (rc == PAM_SUCCESS) {
		say(pamh, flags, away);
		rc = PAM_AUTH_ERR;
	}
	errno = saved;
	return rc;
}

EXPORT int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	const char *user = NULL;
	enum whose who = UNKNOWN;
	int rc = whose(pamh, argc, argv, &user, &who);

	(void)flags;
	if (rc != PAM_SUCCESS)
		return rc;
	return who == OTHERS ? PAM_IGNORE : PAM_SUCCESS;
}
