package shim

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/handbooktest"
)

const cDir = "../../../shim"

// build compiles C sources against private paths in dir, with this process's uid
// as the trusted one, under ASan and UBSan where asked.
type build struct {
	dir      string
	sanitize bool
	define   []string
}

func (b build) cc(t *testing.T, out string, sources []string, flags ...string) string {
	t.Helper()
	target := filepath.Join(b.dir, out)
	args := []string{"-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror",
		"-I" + cDir + "/include", "-I" + cDir + "/common", "-o", target,
		fmt.Sprintf("-DSALLYPORT_NSS_PATH=%q", filepath.Join(b.dir, "nss.db")),
		fmt.Sprintf("-DSALLYPORT_PAM_SOCKET=%q", filepath.Join(b.dir, "pam.sock")),
		fmt.Sprintf("-DSALLYPORT_PRINCIPALS_SOCKET=%q", filepath.Join(b.dir, "p.sock")),
		fmt.Sprintf("-DSALLYPORT_TRUSTED_UID=%d", os.Getuid())}
	if b.sanitize {
		args = append(args, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
	}
	args = append(args, b.define...)
	for _, s := range sources {
		args = append(args, filepath.Join(cDir, s))
	}
	if text, err := exec.Command("gcc", append(args, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("the C parts do not build (apt-get install gcc libpam0g-dev): %v\n%s", err, text)
	}
	return target
}

func library() []string { return []string{"-fPIC", "-shared", "-fvisibility=hidden"} }

// nssProbe builds the module under the name that the C library looks for and the
// program that asks the C library.
func nssProbe(t *testing.T, b build) func(args ...string) string {
	t.Helper()
	b.cc(t, "libnss_sallyport.so.2", []string{"nss/nss_sallyport.c", "common/name.c"}, library()...)
	probe := b.cc(t, "nss_probe", []string{"test/nss_probe.c"})
	return func(args ...string) string {
		t.Helper()
		cmd := exec.Command(probe, args...)
		cmd.Env = []string{"LD_LIBRARY_PATH=" + b.dir}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return strings.TrimSuffix(string(out), "\n")
	}
}

func TestNSSModule_AnswersTheCLibraryFromTheFile(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true}
	probe := nssProbe(t, b)
	db := basic()
	if err := WriteNSS(filepath.Join(b.dir, "nss.db"), db); err != nil {
		t.Fatal(err)
	}
	for _, u := range db.Users {
		line := fmt.Sprintf("%s:*:%d:%d:%s:%s:%s", u.Name, u.UID, u.GID, u.Gecos, u.Home, u.Shell)
		group := fmt.Sprintf("%s:*:%d:", u.Name, u.GID)
		id := fmt.Sprint(u.UID)
		all := id
		for _, g := range u.Groups {
			all += fmt.Sprintf(",%d", g)
		}
		checks := [][]string{{line, "passwd", u.Name}, {line, "uid", id}, {group, "group", u.Name}, {group, "gid", id}, {all, "groups", u.Name, id}}
		for _, c := range checks {
			if got := probe(c[1:]...); got != c[0] {
				t.Errorf("%v: got %q, want %q", c[1:], got, c[0])
			}
		}
	}
	for _, c := range [][]string{
		{"sallyport-users:*:2147483640:", "group", GroupUsers},
		{"sallyport-admins:*:2147483641:bob@example.com", "gid", "2147483641"},
		{"sallyport-identity:*:2147483642:o'neil+x@lab.example", "group", GroupIdentity},
		{"none 0", "passwd", "nobody@example.com"}, {"none 0", "passwd", "root"}, {"none 0", "passwd", "Alice@example.com"},
		{"none 0", "passwd", "alice@other.example"}, {"none 0", "uid", "0"}, {"none 0", "gid", "0"}, {"none 0", "group", "sudo"},
		{"none 0", "uid", "2147483641"}, {"0", "groups", "root", "0"},
	} {
		if got := probe(c[1:]...); got != c[0] {
			t.Errorf("%v: got %q, want %q", c[1:], got, c[0])
		}
	}
}

// The C library asks with a small buffer first and grows it on ERANGE.
func TestNSSModule_ManyUsersAndMembers(t *testing.T) {
	b := build{dir: privateDir(t)}
	probe := nssProbe(t, b)
	db := manyUsers(100000)
	members := []string{}
	for _, u := range db.Users[:1500] {
		members = append(members, u.Name)
	}
	db.Groups = []Group{{GroupUsers, GIDUsers, members}}
	if err := WriteNSS(filepath.Join(b.dir, "nss.db"), db); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, 777, 50000, 99999} {
		u := db.Users[i]
		if got := probe("passwd", u.Name); !strings.HasPrefix(got, u.Name+":*:"+fmt.Sprint(u.UID)) {
			t.Errorf("got %q", got)
		}
		if got := probe("uid", fmt.Sprint(u.UID)); !strings.HasPrefix(got, u.Name+":*:") {
			t.Errorf("got %q", got)
		}
	}
	if got := probe("group", GroupUsers); strings.Count(got, ",") != 1499 {
		t.Fatalf("got %d members", strings.Count(got, ",")+1)
	}
	t.Logf("getpwnam_r of 100,000 users: hit %s; miss %s", probe("bench", "user050000@example.com", "20000"), probe("bench", "absent@example.com", "20000"))
}

// pamProbe builds the module, one service that has it alone and the program that
// makes the calls. It returns what each call said.
func pamProbe(t *testing.T, b build, arguments string) func(user string, calls ...string) string {
	t.Helper()
	module := b.cc(t, "pam_sallyport.so", []string{"pam/pam_sallyport.c", "common/name.c", "common/frame.c", "common/exchange.c"}, append(library(), "-lpam")...)
	probe := b.cc(t, "pam_probe", []string{"test/pam_probe.c"}, "-lpam")
	var service strings.Builder
	for _, kind := range []string{"auth", "account", "session"} {
		// Something must succeed beside the module, or an ignored call fails as an empty stack does.
		fmt.Fprintf(&service, "%s required %s %s\n%s required pam_permit.so\n", kind, module, arguments, kind)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "probe"), []byte(service.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(user string, calls ...string) string {
		t.Helper()
		cmd := exec.Command(probe, append([]string{b.dir, "probe", user}, calls...)...)
		cmd.Env = []string{}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", user, calls, err, out)
		}
		return strings.TrimSuffix(string(out), "\n")
	}
}

const awayText = "says Sallyport: the login service on this machine is not available; ask an administrator of the machine to run 'sally agent status'."

func TestPAMModule_Table(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true}
	probe := pamProbe(t, b, "domains=lab.example,example.com")
	refused := startPAM(t, filepath.Join(b.dir, "pam.sock"), self(), func(_ context.Context, p Peer, r PAMRequest) PAMAnswer {
		if r.Service != "probe" || r.RHost != "10.77.0.1" || r.TTY != "ssh" || p.PID == os.Getpid() {
			t.Errorf("%+v %+v", p, r)
		}
		return PAMAnswer{Allow: strings.HasPrefix(r.User, "alice@") || r.User == testID, Text: "Sallyport: no role for " + r.User + ".\nAsk."}
	})
	denied := "says Sallyport: no role for bob@example.com.\nAsk.\n"
	for _, c := range [][]string{
		{"account PAM_SUCCESS\nopen PAM_SUCCESS\nclose PAM_SUCCESS", "alice@example.com", "account", "open", "close"},
		{"account PAM_SUCCESS", testID, "account"},
		{"account PAM_SUCCESS", "alice@lab.example", "account"},
		{denied + "account PAM_PERM_DENIED", "bob@example.com", "account"},
		{denied + "open PAM_SESSION_ERR", "bob@example.com", "open"},
		{"close PAM_SUCCESS", "bob@example.com", "close"},
		{"auth PAM_MAXTRIES", "alice@example.com", "auth"}, // an allow without a prompt
		{"setcred PAM_SUCCESS", "alice@example.com", "setcred"},
		{"auth PAM_SUCCESS\nsetcred PAM_SUCCESS\naccount PAM_SUCCESS\nopen PAM_SUCCESS\nclose PAM_SUCCESS", "azureuser", "auth", "setcred", "account", "open", "close"},
		{"account PAM_SUCCESS", "alice@other.example", "account"},
		{"account PAM_SUCCESS", "Bob@example.com", "account"},
	} {
		if got := probe(c[1], c[2:]...); got != c[0] {
			t.Errorf("%v: got %q, want %q", c[1:], got, c[0])
		}
	}
	select {
	case err := <-refused:
		t.Fatal(err)
	default:
	}
}

// Without an agent ours are denied with a sentence and others never notice: they
// are not even waited for. A listener that nobody serves stands for a hung agent.
func TestPAMModule_AgentAwayOrHung(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true, define: []string{"-DSALLYPORT_TIMEOUT_MS=1500"}}
	probe := pamProbe(t, b, "domains=example.com")
	away := func(t *testing.T) {
		t.Helper()
		got := probe("alice@example.com", "account", "open")
		if got != awayText+"\naccount PAM_PERM_DENIED\n"+awayText+"\nopen PAM_SESSION_ERR" {
			t.Errorf("got %q", got)
		}
		handbooktest.Said(t, got, "pam-away")
		// By itself: libpam answers close from what open returned.
		if got := probe("alice@example.com", "close"); got != "close PAM_SUCCESS" {
			t.Errorf("got %q", got)
		}
		took := time.Hour
		for range 10 { // a busy computer is slow, and somebody who waits is never quick
			begun := time.Now()
			if got := probe("azureuser", "account", "open", "close"); got != "account PAM_SUCCESS\nopen PAM_SUCCESS\nclose PAM_SUCCESS" {
				t.Errorf("got %q", got)
			}
			if took = min(took, time.Since(begun)); took < 1490*time.Millisecond {
				return
			}
		}
		t.Errorf("after %v", took)
	}
	t.Run("away", away)
	l := listen(t, filepath.Join(b.dir, "pam.sock"))
	t.Run("hung", away)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("dead", away)
}

func TestPAMModule_CVE_2026_41070_TrustsNoAnswerButTwo(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true}
	probe := pamProbe(t, b, "domains=example.com")
	plain := "says " + deniedNoReason + "\naccount PAM_PERM_DENIED"
	deny := func(text string) []byte {
		b, err := frame{typePAMDeny, []string{text}}.encode(limitPAM)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	raw := func(kind byte, fields ...string) []byte {
		b, err := frame{kind, fields}.encode(limitPAM)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"nothing":          {nil, awayText + "\naccount PAM_PERM_DENIED"},
		"garbage":          {[]byte("HTTP/1.1 200 OK\r\n\r\n"), awayText + "\naccount PAM_PERM_DENIED"},
		"allow-with-field": {raw(typePAMAllow, "x"), awayText + "\naccount PAM_PERM_DENIED"},
		"deny-no-field":    {raw(typePAMDeny), awayText + "\naccount PAM_PERM_DENIED"},
		"unknown-type":     {raw(0x04), awayText + "\naccount PAM_PERM_DENIED"},
		"own-request":      {raw(typePAMRequest, "account", "x", "alice@example.com", "", "", ""), awayText + "\naccount PAM_PERM_DENIED"},
		"principals":       {raw(typePrincipalsOne, testID), awayText + "\naccount PAM_PERM_DENIED"},
		"field-overrun":    {readVector(t, "bad-length-overrun"), awayText + "\naccount PAM_PERM_DENIED"},
		"escape":           {deny("a\x1b[2Jb"), plain},
		"not-ascii":        {deny("\u009b"), plain},
		"nul":              {deny("a\x00b"), plain},
		"empty":            {deny(""), plain},
		"long":             {deny(strings.Repeat("a", 1025)), plain},
		"percent":          {deny("%s%n"), "says %s%n\naccount PAM_PERM_DENIED"},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, filepath.Join(b.dir, "pam.sock"))
			defer func() { _ = l.Close() }()
			go answerOnce(l, c.answer)
			got := probe("alice@example.com", "account")
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.want == plain {
				handbooktest.Said(t, got, "pam-denied")
			}
		})
	}
}

func answerOnce(l *net.UnixListener, answer []byte) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return
	}
	_, _ = readFrame(conn, limitPrincipals)
	_, _ = conn.Write(answer)
	_ = conn.Close()
}

// CVE-2026-31957 (Himmelblau): a machine whose line lacks the domains admits
// nobody of our shape, and local people go on.
func TestPAMModule_WrongLineDeniesOurs(t *testing.T) {
	for _, arguments := range []string{"", "domains=", "domains=example.com debug", "example.com"} {
		t.Run(arguments, func(t *testing.T) {
			b := build{dir: privateDir(t), sanitize: true}
			probe := pamProbe(t, b, arguments)
			startPAM(t, filepath.Join(b.dir, "pam.sock"), self(), func(context.Context, Peer, PAMRequest) PAMAnswer {
				t.Error("the agent was asked")
				return PAMAnswer{Allow: true}
			})
			if got := probe("alice@example.com", "account"); got != awayText+"\naccount PAM_PERM_DENIED" {
				t.Errorf("got %q", got)
			}
			if got := probe(testID, "auth"); got != awayText+"\nauth PAM_AUTH_ERR" {
				t.Errorf("got %q", got)
			}
			if got := probe("root", "account", "open"); got != "account PAM_SUCCESS\nopen PAM_SUCCESS" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestPrincipalsCommand_PrintsOneObjectIDOrNothing(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true}
	program := b.cc(t, "principals", []string{"principals/main.c", "common/name.c", "common/frame.c", "common/exchange.c"})
	run := func(args ...string) (stdout string, status int, stderr string) {
		var out, problems strings.Builder
		cmd := exec.Command(program, args...)
		cmd.Stdout, cmd.Stderr = &out, &problems
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return out.String(), cmd.ProcessState.ExitCode(), problems.String()
	}
	right := []string{"alice@example.com", "0f8e5d9c-1b2a-4c3d-9e8f-abcdefabcdef", "18446744073709551615", "AAAA"}
	if out, status, why := run(right...); out != "" || status != 1 || why != "sallyport-principals: cannot connect to the agent\n" {
		t.Fatalf("no agent: %q %d %q", out, status, why)
	}
	l := listen(t, filepath.Join(b.dir, "p.sock"))
	seen := make(chan PrincipalsRequest, 8)
	start(t, func(ctx context.Context, c Config) error {
		return ServePrincipals(ctx, l, c, func(_ context.Context, _ Peer, r PrincipalsRequest) (string, bool) {
			seen <- r
			return testID, r.User == "alice@example.com"
		})
	}, self())
	if out, status, why := run(right...); out != testID+"\n" || status != 0 || why != "" {
		t.Fatalf("%q %d %q", out, status, why)
	}
	if r := <-seen; r != (PrincipalsRequest{right[0], right[1], right[2], right[3]}) {
		t.Fatalf("got %+v", r)
	}
	if out, status, why := run("bob@example.com", "k", "1", "AAAA"); out != "" || status != 0 || why != "" {
		t.Fatalf("%q %d %q", out, status, why)
	}
	<-seen
	for _, bad := range [][]string{
		{}, right[:3], append(right, "x"), {"root", "k", "1", "AAAA"}, {"alice@example.com", "", "1", "AAAA"},
		{"alice@example.com", "k\n", "1", "AAAA"}, {"alice@example.com", "k", "-1", "AAAA"},
		{"alice@example.com", "k", "1", "AA AA"}, {"alice@example.com", "k", "1", strings.Repeat("A", 30004)},
	} {
		if out, status, why := run(bad...); out != "" || status != 1 || why == "" {
			t.Errorf("%.60q: %q %d %q", bad, out, status, why)
		}
	}
	if len(seen) != 0 {
		t.Fatal("the agent was asked in vain")
	}
	large := strings.Repeat("A", 29000)
	if out, status, _ := run(right[0], right[1], right[2], large); out != testID+"\n" || status != 0 || (<-seen).Certificate != large {
		t.Fatal("a large certificate does not arrive")
	}
}

func TestPrincipalsCommand_PrintsNothingElse(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true}
	program := b.cc(t, "principals", []string{"principals/main.c", "common/name.c", "common/frame.c", "common/exchange.c"})
	for _, answer := range []frame{
		{typePrincipalsOne, []string{"root"}}, {typePrincipalsOne, []string{testID, testID}}, {typePrincipalsOne, nil},
		{typePrincipalsOne, []string{strings.ToUpper(testID)}}, {typePrincipalsOne, []string{testID + "\n"}},
		{typePrincipalsNone, []string{"x"}}, {typePAMAllow, nil}, {typePrincipalsOne, []string{testID[:35] + "*"}},
	} {
		l := listen(t, filepath.Join(b.dir, "p.sock"))
		bytes, err := answer.encode(limitPrincipals)
		if err != nil {
			t.Fatal(err)
		}
		go answerOnce(l, bytes)
		cmd := exec.Command(program, "alice@example.com", "k", "1", "AAAA")
		if out, err := cmd.Output(); err == nil || len(out) != 0 {
			t.Errorf("%+v: printed %q, %v", answer, out, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// CVE-2024-9313: through su and sudo another person's account opened to whoever
// had authenticated as himself. Here no call but the agent's answer opens an
// account of ours, and the agent is asked for the very account.
func TestPAMModule_CVE_2024_9313_NoOtherProofOpensAnAccount(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true}
	probe := pamProbe(t, b, "domains=example.com")
	var mu sync.Mutex
	asked := []string{}
	startPAM(t, filepath.Join(b.dir, "pam.sock"), self(), func(_ context.Context, _ Peer, r PAMRequest) PAMAnswer {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.User)
		return PAMAnswer{Allow: r.User == "alice@example.com", Text: "no"}
	})
	for user, want := range map[string]string{
		"alice@example.com": "auth PAM_MAXTRIES\naccount PAM_SUCCESS",
		"bob@example.com":   "says no\nauth PAM_MAXTRIES\nsays no\naccount PAM_PERM_DENIED",
		testID:              "says no\nauth PAM_MAXTRIES\nsays no\naccount PAM_PERM_DENIED",
	} {
		mu.Lock()
		asked = nil
		mu.Unlock()
		if got := probe(user, "auth", "account"); got != want {
			t.Errorf("%s: got %q, want %q", user, got, want)
		}
		mu.Lock()
		if len(asked) != 2 || asked[0] != user || asked[1] != user {
			t.Errorf("%s: the agent was asked for %q", user, asked)
		}
		mu.Unlock()
	}
}

// CVE-2025-5689 and CVE-2023-28436: whatever the file says, nobody becomes root
// or gets a group that is not ours.
func TestNSSModule_CVE_2025_5689_CVE_2023_28436_NoIDOutsideOurRange(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true}
	probe := nssProbe(t, b)
	good, err := encodeNSS(basic())
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(good, []byte("bob@example.com\x00")) - 28
	put := func(offset int, value uint32) {
		t.Helper()
		bad := bytes.Clone(good)
		binary.BigEndian.PutUint32(bad[at+offset:], value)
		if err := os.WriteFile(filepath.Join(b.dir, "nss.db"), bad, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(8, IDMin+2)
	if got := probe("passwd", "bob@example.com"); !strings.HasPrefix(got, fmt.Sprintf("bob@example.com:*:%d:%d:", IDMin+2, IDMin+2)) {
		t.Errorf("uid and gid are not his own: %q", got)
	}
	if got := probe("groups", "bob@example.com", fmt.Sprint(IDMin+2)); got != fmt.Sprintf("%d,%d,%d", IDMin+2, GIDUsers, GIDAdmins) {
		t.Errorf("groups %q", got)
	}
	for _, uid := range []uint32{0, 1, 27, 1000, IDMin - 1, GIDUsers, GIDAdmins, 1<<32 - 1} {
		put(8, uid)
		for _, question := range [][]string{{"passwd", "bob@example.com"}, {"group", "bob@example.com"}, {"uid", fmt.Sprint(uid)}} {
			if got := probe(question...); got != "none 0" {
				t.Errorf("uid %d: %v: %q", uid, question, got)
			}
		}
	}
	put(12, 1<<32-1) // every role, and 29 that do not exist
	if got := probe("groups", "bob@example.com", fmt.Sprint(IDMin+2)); got != fmt.Sprintf("%d,%d,%d,%d", IDMin+2, GIDUsers, GIDAdmins, GIDIdentity) {
		t.Errorf("groups %q", got)
	}
}
