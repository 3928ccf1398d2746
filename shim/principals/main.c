/* SPDX-License-Identifier: Apache-2.0
 *
 * sshd's AuthorizedPrincipalsCommand, with the arguments %u %i %s %k: login
 * name, key id, serial, certificate in base64. Asks the agent and prints the
 * object id that a certificate must name to open this account, or nothing.
 * Exit status 0 with an answer, also if it is nobody; 1 with a reason on
 * stderr, which sshd logs. Both deny unless an id was printed.
 */
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "exchange.h"
#include "frame.h"
#include "name.h"
#include "sallyport.h"

enum { KEY_ID_MAX = 256, SERIAL_MAX = 20, CERTIFICATE_MAX = 30000 };

static int write_all(int fd, const char *s, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, s, len);

		if (n <= 0)
			return -1;
		s += n;
		len -= (size_t)n;
	}
	return 0;
}

static int fail(const char *reason)
{
	static const char prefix[] = "sallyport-principals: ";

	if (write_all(2, prefix, sizeof(prefix) - 1) == 0 && write_all(2, reason, strlen(reason)) == 0)
		(void)write_all(2, "\n", 1);
	return 1;
}

/* between: 1 to max bytes, all from lo to hi or in extra. */
static int between(const char *s, size_t max, char lo, char hi, const char *extra)
{
	size_t n = strnlen(s, max + 1), i;

	if (n == 0 || n > max)
		return 0;
	for (i = 0; i < n; i++)
		if ((s[i] < lo || s[i] > hi) && strchr(extra, s[i]) == NULL)
			return 0;
	return 1;
}

static int print_id(const struct sp_field *f)
{
	char line[SP_GUID_LEN + 1];

	if (f->len != SP_GUID_LEN)
		return fail("the agent's answer is not an object id");
	memcpy(line, f->data, SP_GUID_LEN);
	line[SP_GUID_LEN] = '\0';
	if (!sp_name_is_guid(line))
		return fail("the agent's answer is not an object id");
	line[SP_GUID_LEN] = '\n';
	return write_all(1, line, sizeof(line)) == 0 ? 0 : fail("cannot write the answer");
}

static const char *check(int argc, char **argv)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/=";

	if (argc != 5)
		return "usage: sallyport-principals USER KEY-ID SERIAL CERTIFICATE (sshd's %u %i %s %k)";
	if (!sp_name_shaped(argv[1]))
		return "the login name is not one of ours";
	if (!between(argv[2], KEY_ID_MAX, 0x20, 0x7e, ""))
		return "the key id is empty, too long or not printable";
	if (!between(argv[3], SERIAL_MAX, '0', '9', ""))
		return "the serial is not a number";
	if (!between(argv[4], CERTIFICATE_MAX, '0', '9', letters))
		return "the certificate is not base64 or too long";
	return NULL;
}

int main(int argc, char **argv)
{
	static unsigned char buf[SP_LIMIT_PRINCIPALS];
	struct sp_frame frame = {SP_PRINC_REQUEST, 0, {{NULL, 0}}};
	const char *reason = check(argc, argv);
	enum sp_fault fault;
	size_t len;
	int i;

	if (reason != NULL)
		return fail(reason);
	for (i = 1; i < 5; i++)
		if (sp_frame_add(&frame, argv[i]) != 0)
			return fail("the request does not fit");
	len = sp_frame_write(&frame, buf, sizeof(buf));
	if (len == 0)
		return fail("the request does not fit");
	fault = sp_exchange(SALLYPORT_PRINCIPALS_SOCKET, buf, sizeof(buf), &len);
	if (fault == SP_OK && sp_frame_read(&frame, buf, len) != 0)
		fault = SP_FAULT_FRAME;
	if (fault != SP_OK)
		return fail(sp_fault_text(fault));
	if (frame.type == SP_PRINC_NONE && frame.count == 0)
		return 0;
	if (frame.type == SP_PRINC_ONE && frame.count == 1)
		return print_id(&frame.field[0]);
	return fail(sp_fault_text(SP_FAULT_FRAME));
}
