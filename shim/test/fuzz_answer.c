/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: any bytes as the agent's answer, to the PAM module and to sshd's
 * principals command. Nothing but the one allow frame lets anybody in, a person
 * is shown printable text only, and sshd reads an object id or nothing. The
 * exchange and libpam are replaced by the functions below. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ssize_t printed_by_command(int fd, const char *s, size_t len);

#include <unistd.h>

#define main principals_main
#define write printed_by_command
#include "../principals/main.c"
#undef main
#undef write

#include "../pam/pam_sallyport.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t *answer;
static size_t answer_len;
static char shown[4096], printed[4096];
static size_t shown_len, printed_len;
static int prompted, rounds;

static void require(int condition)
{
	if (!condition)
		abort();
}

/* As the exchange does: one frame, not above cap, what follows it is not read. */
enum sp_fault sp_exchange(const char *path, unsigned char *buf, size_t cap, size_t *len)
{
	struct sp_frame request;
	size_t total;

	errno = EPIPE; /* as a real exchange may leave it */
	rounds++;
	require(path[0] == '/' || path[0] == 'o');
	require(sp_frame_read(&request, buf, *len) == 0);
	if (answer_len < SP_FRAME_HEADER)
		return SP_FAULT_IO;
	total = sp_frame_length(answer, cap);
	if (total == 0)
		return SP_FAULT_FRAME;
	if (total > answer_len)
		return SP_FAULT_IO;
	memcpy(buf, answer, total);
	*len = total;
	return SP_OK;
}

const char *sp_fault_text(enum sp_fault fault)
{
	return fault == SP_OK ? "" : "fault";
}

int pam_get_user(pam_handle_t *pamh, const char **user, const char *prompt)
{
	(void)pamh;
	(void)prompt;
	*user = "alice@example.com";
	return PAM_SUCCESS;
}

int pam_get_item(const pam_handle_t *pamh, int type, const void **item_out)
{
	(void)pamh;
	*item_out = type == PAM_SERVICE ? "sshd" : NULL;
	return PAM_SUCCESS;
}

void pam_syslog(const pam_handle_t *pamh, int priority, const char *format, ...)
{
	(void)pamh;
	(void)priority;
	(void)format;
}

int pam_prompt(pam_handle_t *pamh, int style, char **response, const char *format, ...)
{
	va_list args;
	int n;

	(void)pamh;
	require((style == PAM_ERROR_MSG && response == NULL) || (style == PAM_PROMPT_ECHO_OFF && response != NULL));
	if (response != NULL) {
		*response = strdup("what a person types");
		prompted++;
	}
	va_start(args, format);
	n = vsnprintf(shown, sizeof(shown), format, args);
	va_end(args);
	require(n >= 0 && n <= TEXT_MAX);
	shown_len = (size_t)n;
	return PAM_SUCCESS;
}

static ssize_t printed_by_command(int fd, const char *s, size_t len)
{
	if (fd == 1) {
		require(printed_len + len < sizeof(printed));
		memcpy(printed + printed_len, s, len);
		printed_len += len;
	}
	return (ssize_t)len;
}

static void ask_pam(void)
{
	static const unsigned char allow[] = {'S', 'P', '0', '1', SP_PAM_ALLOW, 0, 0, SP_FRAME_HEADER};
	static const char *const domains[] = {"domains=example.com"};
	const char *arguments[1];
	static char nothing;
	pam_handle_t *pamh = (pam_handle_t *)(void *)&nothing; /* never looked into */
	int rc, allowed = answer_len >= sizeof(allow) && memcmp(answer, allow, sizeof(allow)) == 0;
	size_t i;

	arguments[0] = domains[0];
	shown_len = 0;
	errno = 77;
	rc = pam_sm_acct_mgmt(pamh, (int)PAM_SILENT, 1, arguments);
	require(errno == 77);
	require(rc == (allowed ? PAM_SUCCESS : PAM_PERM_DENIED));
	require(allowed == (shown_len == 0));
	for (i = 0; i < shown_len; i++)
		require(shown[i] == '\n' || (shown[i] >= 0x20 && shown[i] <= 0x7e));
	require(pam_sm_open_session(pamh, 0, 1, arguments) == (allowed ? PAM_SUCCESS : PAM_SESSION_ERR));
	/* The same answer to every question lets nobody in: an allow counts only after
	 * a prompt. It ends, whatever the answer. */
	prompted = rounds = 0;
	require(pam_sm_authenticate(pamh, (int)PAM_SILENT, 1, arguments) == PAM_MAXTRIES);
	require(prompted <= 1 && rounds <= ROUNDS_MAX + 1 && (prompted == 0 || answer[4] == SP_PAM_PROMPT));
	for (i = 0; i < shown_len; i++)
		require(shown[i] == '\n' || (shown[i] >= 0x20 && shown[i] <= 0x7e));
}

static void ask_principals(void)
{
	char words[5][24] = {"sallyport-principals", "alice@example.com", "key id", "1", "AAAA"};
	char *argv[] = {words[0], words[1], words[2], words[3], words[4], NULL};
	int rc;

	printed_len = 0;
	rc = principals_main(5, argv);
	require(rc == 0 || printed_len == 0);
	require(printed_len == 0 || (printed_len == SP_GUID_LEN + 1 && printed[SP_GUID_LEN] == '\n'));
	printed[printed_len == 0 ? 0 : SP_GUID_LEN] = '\0';
	require(printed_len == 0 || sp_name_is_guid(printed));
}

/* The bytes as sshd's words for the command: what it accepts is what the agent
 * reads in a frame, word for word, and nothing of it is outside its alphabet. */
static void ask_with_words(const uint8_t *data, size_t len)
{
	struct sp_frame f;
	char *argv[SP_FRAME_FIELDS + 2] = {NULL};
	int i, n = 1;

	if (sp_frame_read(&f, data, len) != 0)
		return;
	argv[0] = strdup("sallyport-principals");
	for (i = 0; i < f.count; i++) {
		argv[n] = calloc(1, f.field[i].len + 1);
		require(argv[n] != NULL);
		memcpy(argv[n++], f.field[i].data, f.field[i].len);
	}
	if (check(n, argv) == NULL) {
		require(n == 5 && sp_name_shaped(argv[1]) && strlen(argv[2]) <= KEY_ID_MAX);
		require(strspn(argv[3], "0123456789") == strlen(argv[3]) && strlen(argv[4]) <= CERTIFICATE_MAX);
	}
	answer_len = 0;
	require(principals_main(n, argv) == 1);
	for (i = 0; i < n; i++)
		free(argv[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	answer = data;
	answer_len = len;
	ask_pam();
	ask_principals();
	ask_with_words(data, len);
	return 0;
}
