package sshd

import (
	"fmt"
	"strings"

	"sallyport/internal/agent/shim"
)

// Markers of our lines in files that are not ours.
const (
	begin = "# BEGIN Sallyport (the machine agent wrote this and removes it with the extension)"
	end   = "# END Sallyport"
)

// block wraps lines in the markers.
func block(lines ...string) string {
	return begin + "\n" + strings.Join(lines, "\n") + "\n" + end + "\n"
}

// strip removes every block of ours, and nothing else. Of a block whose end
// somebody removed only the lines go that name us.
func strip(text string) string {
	var b, held strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		switch trimmed := strings.TrimRight(line, "\n"); {
		case trimmed == begin:
			b.WriteString(held.String())
			held.Reset()
			inside = true
		case trimmed == end && inside:
			held.Reset()
			inside = false
		case !inside:
			b.WriteString(line)
		case !strings.Contains(line, nssName):
			held.WriteString(line)
		}
	}
	return b.String() + held.String()
}

// matchPatterns are the login names that are ours: one pattern per verified
// domain, never *@*, and the object ids of service principals.
func matchPatterns(domains []string) string {
	var p []string
	for _, d := range domains {
		p = append(p, "*@"+d)
	}
	return strings.Join(append(p, "????????-????-????-????-????????????"), ",")
}

// options of the Match block; `sshd -T` must print each. Each is named although its default may be the
// same: a global setting stays active inside a Match that does not name it.
// AllowUsers * sets aside a global AllowUsers, whose patterns cannot match a name
// with '@' at all; DenyUsers and DenyGroups stay in force.
func options(helper string, m manner) []string {
	return m.changed([]string{
		"TrustedUserCAKeys " + userCAPath,
		"AuthorizedPrincipalsCommand " + helper + " %u %i %s %k",
		"AuthorizedPrincipalsCommandUser " + helperUser,
		"AuthorizedPrincipalsFile none",
		"AuthorizedKeysCommand none",
		"AuthorizedKeysCommandUser " + helperUser,
		"AuthorizedKeysFile none",
		"AuthenticationMethods publickey",
		"PubkeyAuthentication yes",
		"PasswordAuthentication no",
		"PermitEmptyPasswords no",
		"AllowUsers *",
		"AllowGroups " + shim.GroupUsers,
	})
}

// sshdLines is what sshd's configuration gets. HostCertificate is a global
// keyword, so it stands before the Match.
func sshdLines(domains []string, helper string, hostCertificate bool, m manner) []string {
	lines, behind := m.around()
	if hostCertificate {
		lines = append(lines, "HostCertificate "+HostCertificatePath)
	}
	lines = append(lines, "Match User "+matchPatterns(domains))
	for _, o := range options(helper, m) {
		lines = append(lines, "  "+o)
	}
	return append(lines, behind...)
}

// editMain puts the block into a sshd_config without an Include: before the
// first Match, so that it is the first to match, or at the end.
func editMain(text string, lines []string) string {
	text = strip(text)
	own := block(lines...)
	var head strings.Builder
	rest := text
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 0 && strings.EqualFold(f[0], "Match") {
			return head.String() + own + rest
		}
		head.WriteString(line)
		rest = rest[len(line):]
	}
	return withNewline(text) + own
}

func withNewline(text string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		return text + "\n"
	}
	return text
}

// included reports whether sshd_config includes the folder of drop-ins before
// any Match, so that a drop-in's first line is read as global.
func included(text string) bool {
	for line := range strings.Lines(strip(text)) {
		f := strings.Fields(strings.Replace(line, "=", " ", 1))
		if len(f) == 0 {
			continue
		}
		if strings.EqualFold(f[0], "Match") {
			return false
		}
		if !strings.EqualFold(f[0], "Include") {
			continue
		}
		for _, pattern := range f[1:] {
			if strings.Trim(pattern, `"`) == dropInFolder+"/*.conf" || strings.Trim(pattern, `"`) == "sshd_config.d/*.conf" {
				return true
			}
		}
	}
	return false
}

// pamService is how one PAM service is wired.
type pamService struct {
	name    string
	session bool // tell the agent about sessions and make the home folder
}

// pamServices lists the services that let somebody become one of ours or act as
// one. Those whose file does not exist are left out.
func pamServices() []pamService {
	return []pamService{{"sudo", false}, {"sudo-i", false}, {"su", false}, {"su-l", false}, {"login", false}, {"cron", false}, {"crond", false}, {"atd", false},
		{"systemd-user", false}, {"sshd", true}}
}

// pamBlocks are our lines in a PAM service. A module that cannot be loaded fails
// its phase for everybody (pam.conf(5), module_unknown): somebody who removes our
// library must not lock local people out with it. So ours is passed over then, and
// the next line, which is reached only in that case, refuses the people of the
// directory. NSS has gone with it or not: they are in the group, or unknown.
func pamBlocks(domains []string) (account, session string) {
	ours := "pam_sallyport.so domains=" + strings.Join(domains, ",")
	account = block("account  [success=1 ignore=1 module_unknown=ignore default=bad]  "+ours,
		"account  required                       pam_succeed_if.so quiet user notingroup "+shim.GroupUsers)
	session = block("session  [success=ok ignore=ignore module_unknown=ignore default=bad]  "+ours,
		fmt.Sprintf("session  [success=ignore default=1]     pam_succeed_if.so quiet uid >= %d", shim.IDMin),
		"session  required                       pam_mkhomedir.so umask=0077")
	return account, session
}

// asked reports whether our line is the first of a PAM service's account phase, so
// that nothing can be sufficient before it.
func asked(text string) bool {
	for line := range strings.Lines(text) {
		if kind, _ := pamLine(line); kind != "" {
			return strings.Contains(line, " pam_sallyport.so domains=")
		}
	}
	return false
}

// editPAM puts the account lines before everything else of the account phase, and
// the session lines at the end. A file that takes its account phase from another
// service of ours is returned as it is. ok is false when the file has no account
// phase at all.
func editPAM(text string, s pamService, domains []string, m manner) (edited string, ok bool) {
	text = strip(text)
	account, session := pamBlocks(domains)
	var b strings.Builder
	placed := false
	for line := range strings.Lines(text) {
		if kind, target := pamLine(line); !placed && kind != "" {
			for _, other := range pamServices() {
				if target == other.name {
					return text, true
				}
			}
			b.WriteString(account)
			placed = true
		}
		b.WriteString(line)
	}
	if !placed {
		return text, false
	}
	if !s.session {
		return b.String(), true
	}
	text = withNewline(b.String()) + session
	if m.preview {
		text = placeAuth(text, domains)
	}
	return text, true
}

// pamLine reports whether a line belongs to the account phase, and the service
// or file that it takes it from. As PAM reads them: in any case, with the rest of
// a line behind a backslash, and an included file may hold any phase.
func pamLine(line string) (kind, target string) {
	f := strings.Fields(line)
	switch {
	case len(f) < 2:
	case f[0] == "@include" && !otherPhase(f[1]):
		return "include", ""
	case !strings.EqualFold(strings.TrimPrefix(f[0], "-"), "account"):
	case len(f) >= 3 && (strings.EqualFold(f[1], "include") || strings.EqualFold(f[1], "substack")):
		return "account", f[2]
	default:
		return "account", ""
	}
	return "", ""
}

// otherPhase reports whether an included file is, by the name that Debian's
// pam-auth-update(8) gives it, of a phase that is not the account phase.
func otherPhase(file string) bool {
	for _, phase := range []string{"auth", "password", "session", "session-noninteractive"} {
		if file == "common-"+phase {
			return true
		}
	}
	return false
}

const nssName = "sallyport"

// editNSS adds our module after the local files, so that local names win. The
// lines passwd and group are made where they are missing.
func editNSS(text string) string {
	text = withNewline(stripNSS(text))
	var b strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		if db := database(line); db != "" {
			seen[db] = true
			line = addSource(line)
		}
		b.WriteString(line)
	}
	for _, db := range []string{"passwd", "group"} {
		if !seen[db] {
			b.WriteString(block(db + ": files " + nssName))
		}
	}
	return b.String()
}

// database names the database that a line of nsswitch.conf(5) is about, if it
// is one that we serve.
func database(line string) string {
	db, _, ok := strings.Cut(line, ":")
	if db = strings.TrimSpace(db); ok && (db == "passwd" || db == "group" || db == "initgroups") {
		return db
	}
	return ""
}

// nssSpace is what separates the sources of a line of nsswitch.conf(5).
const nssSpace = " \t\n\v\f\r"

// addSource inserts our module behind "files" or "compat" and the action that
// may follow it, else at the end.
func addSource(line string) string {
	body, comment := line, ""
	if i := strings.IndexByte(line, '#'); i >= 0 {
		body, comment = line[:i], line[i:]
	}
	at := len(strings.TrimRight(body, nssSpace))
	for from := strings.IndexByte(body, ':') + 1; from < at; {
		n := strings.IndexAny(body[from:at], nssSpace)
		if n < 0 {
			n = at - from
		}
		if word := body[from : from+n]; word == "files" || word == "compat" {
			at = behindAction(body[:at], from+n)
			break
		}
		from += n + 1
	}
	return body[:at] + " " + nssName + body[at:] + comment
}

// behindAction returns where the source that ends at `from` ends with the
// action in brackets that may follow it. An action that is not closed, or that
// the next source touches, sends us to the end of the line.
func behindAction(body string, from int) int {
	rest := strings.TrimLeft(body[from:], nssSpace)
	if !strings.HasPrefix(rest, "[") {
		return from
	}
	closed := strings.IndexByte(rest, ']') + 1
	if closed == 0 || closed < len(rest) && !strings.ContainsRune(nssSpace, rune(rest[closed])) {
		return len(body)
	}
	return len(body) - len(rest) + closed
}

// stripNSS takes our module out again.
func stripNSS(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strip(text)) {
		if db := database(line); db != "" {
			line = dropSource(line)
		}
		b.WriteString(line)
	}
	return b.String()
}

func dropSource(line string) string {
	body, comment := line, ""
	if i := strings.IndexByte(line, '#'); i >= 0 {
		body, comment = line[:i], line[i:]
	}
	for from := 0; ; {
		i := strings.Index(body[from:], " "+nssName)
		if i < 0 {
			return body + comment
		}
		i += from
		after := i + 1 + len(nssName)
		if after == len(body) || strings.ContainsRune(nssSpace, rune(body[after])) {
			body = body[:i] + body[after:]
			continue
		}
		from = after
	}
}
