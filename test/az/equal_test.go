//go:build e2e

package az

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport/internal/cli"
)

// maxExceptions caps exceptions.txt. It only ever goes down.
const maxExceptions = 15

// tokens stand for ~ in the command lines of az and of sally: equally long, so that
// tables are.
var tokens = [2]string{"0az", "0sy"}

// driver is driver.py: az's own code, warm, a child for each command line.
type driver struct {
	mu   sync.Mutex
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	next int
}

// parameter is one that a command of az takes.
type parameter struct {
	Options  []string
	Required bool
}

// drive starts a driver as somebody, and returns which commands az has, with what
// they take.
func drive(t *testing.T, s *somebody, commands []string) (*driver, map[string][]parameter) {
	t.Helper()
	script, err := filepath.Abs("driver.py")
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{cmd: s.command(filepath.Join(s.w.venv, "bin", "python"), script)}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.cmd.Stderr = os.Stderr
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out = bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the end of its input ends it
		_ = d.in.Close()
		_ = d.cmd.Wait()
	})
	var answer struct{ Known map[string][]parameter }
	if err := d.ask(map[string]any{"known": commands}, &answer); err != nil {
		t.Fatal(err)
	}
	return d, answer.Known
}

func (d *driver) ask(request map[string]any, answer any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	request["id"] = d.next
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := d.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	if line, err = d.out.ReadBytes('\n'); err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	return json.Unmarshal(line, answer)
}

// az runs a command line of az.
func (d *driver) az(words []string) result { return d.result(map[string]any{"args": words}) }

// sally runs one of ours, in the driver's folder and with its names of hosts.
func (d *driver) sally(words []string) result {
	return d.result(map[string]any{"run": append([]string{theWorld.sally}, words...)})
}

func (d *driver) result(request map[string]any) result {
	var r struct {
		Code     int
		Out, Err string
	}
	theWorld.turns <- struct{}{}
	defer func() { <-theWorld.turns }()
	if err := d.ask(request, &r); err != nil {
		return result{err: err.Error(), code: 127}
	}
	return result{out: r.Out, err: r.Err, code: r.Code}
}

// row is a line of equal.txt.
type row struct {
	code         int
	who, formats string
	line         string
}

// sections reads equal.txt.
func sections(t *testing.T) map[string][]row {
	t.Helper()
	data, err := os.ReadFile("equal.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, name := map[string][]row{}, ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			name = strings.Trim(line, "[]")
		default:
			var r row
			parts := strings.SplitN(line, " ", 4)
			if _, err := fmt.Sscan(parts[0], &r.code); err != nil || len(parts) != 4 {
				t.Fatalf("equal.txt: %q", line)
			}
			r.who, r.formats, r.line = parts[1], parts[2], parts[3]
			all[name] = append(all[name], r)
		}
	}
	return all
}

// words splits a line as a shell does, quotes and nothing else.
func words(line string) []string {
	var out []string
	var word strings.Builder
	quote, begun := rune(0), false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' && begun:
			out, begun = append(out, word.String()), false
			word.Reset()
		case c != ' ':
			word.WriteRune(c)
			begun = true
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out
}

// equality is one run of TestEqual.
type equality struct {
	people     map[string]*somebody
	drivers    map[string]*driver
	values     *strings.Replacer
	exceptions *exceptions

	mu   sync.Mutex
	seen map[string][]rowEnd // by section
}

// rowEnd is how az ended a row.
type rowEnd struct {
	row
	az result
}

// exceptions is exceptions.txt and what of it was needed.
type exceptions struct {
	mu     sync.Mutex
	list   [][2]string // command line, field
	needed map[[2]string]bool
}

func readExceptions(t *testing.T) *exceptions {
	t.Helper()
	data, err := os.ReadFile("exceptions.txt")
	if err != nil {
		t.Fatal(err)
	}
	e := &exceptions{needed: map[[2]string]bool{}}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.SplitN(line, " | ", 3)
		if len(parts) != 3 || parts[2] == "" {
			t.Fatalf("exceptions.txt wants a command line, a field and a reason: %q", line)
		}
		e.list = append(e.list, [2]string{parts[0], parts[1]})
	}
	if len(e.list) > maxExceptions {
		t.Errorf("exceptions.txt has %d lines; the cap is %d", len(e.list), maxExceptions)
	}
	return e
}

// has reports whether a difference is excepted.
func (e *exceptions) has(line, field string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	plain := strings.NewReplacer(`"`, "", " ~", "~").Replace(line) + " "
	for _, x := range e.list {
		if strings.HasPrefix(plain, x[0]+" ") && (x[1] == field || x[1] == "*") {
			e.needed[x] = true
			return true
		}
	}
	return false
}

func (e *exceptions) stale() []string {
	var out []string
	for _, x := range e.list {
		if !e.needed[x] {
			out = append(out, x[0]+" | "+x[1])
		}
	}
	return out
}

// commands are sally's, but for hidden ones, and their flags.
func commands(c *cobra.Command, path string) map[string][]string {
	all := map[string][]string{}
	for _, child := range c.Commands() {
		name := strings.TrimSpace(path + " " + child.Name())
		if child.HasSubCommands() {
			maps.Copy(all, commands(child, name))
		} else if !child.Hidden {
			all[name] = []string{}
			child.Flags().VisitAll(func(f *pflag.Flag) { all[name] = append(all[name], "--"+f.Name, "-"+f.Shorthand) })
		}
	}
	return all
}

// TestEqual: what az and sally print, say and end with, for every command that both
// have.
func TestEqual(t *testing.T) {
	t.Parallel()
	a := admin()
	own := commands(cli.Command(cli.System("0")), "")
	e := &equality{people: map[string]*somebody{"a": a}, drivers: map[string]*driver{}, exceptions: readExceptions(t), seen: map[string][]rowEnd{}}
	e.populate(t)
	var known map[string][]parameter
	e.drivers["a"], known = drive(t, a, slices.Sorted(maps.Keys(own)))
	e.drivers["r"], _ = drive(t, e.people["r"], []string{"vm show", "group show", "role assignment list"})
	e.drivers["s"], _ = drive(t, e.people["s"], []string{"login"})
	e.real(t)
	all := sections(t)
	t.Run("Rows", func(t *testing.T) {
		for name, list := range all {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for _, r := range list {
					az := e.compare(t, r)
					e.mu.Lock()
					e.seen[name] = append(e.seen[name], rowEnd{r, az})
					e.mu.Unlock()
				}
			})
		}
	})
	if t.Failed() || len(e.seen) < len(all) {
		return // some of the rows were chosen
	}
	e.complete(t, known, own)
	for _, line := range e.exceptions.stale() {
		t.Errorf("exceptions.txt: nothing needs %q any more", line)
	}
}

// populate makes what the rows are about, with sally, and signs both clients in.
func (e *equality) populate(t *testing.T) {
	a := e.people["a"]
	run := func(words ...string) string {
		t.Helper()
		r := a.run(append([]string{theWorld.sally}, words...)...)
		if r.code != 0 {
			t.Fatalf("sally %s: %s", strings.Join(words, " "), r)
		}
		return strings.TrimSpace(r.out)
	}
	run("login", "--server", theWorld.address, "-u", a.name, "-p", a.password)
	sub := "/subscriptions/" + run("account", "show", "--query", "id", "-o", "tsv")
	key := filepath.Join(a.config, "equal")
	if err := shell("ssh-keygen -q -t ed25519 -N '' -C equal -f " + key); err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := shell("openssl req -x509 -newkey rsa:2048 -nodes -keyout " + key + "-cert -subj /CN=equal -days 300 -out " + key + ".pem"); err != nil {
		t.Fatal(err)
	}
	cert, err := output("sh", "-c", "openssl x509 -in "+key+".pem -outform DER | base64 -w0")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []string{"Equal", "Closed", "Left" + tokens[0], "Left" + tokens[1]} {
		run("group", "create", "-n", g, "-l", place, "--tags", "team=ops", "color=blue")
	}
	vm := []string{"--image", "UbuntuLTS", "--admin-username", "azureuser", "--ssh-key-values", key + ".pub"}
	run(append([]string{"vm", "create", "-g", "Equal", "-n", "box", "--assign-identity"}, vm...)...)
	run(append([]string{"vm", "create", "-g", "Equal", "-n", "plain"}, vm...)...)
	run("vm", "extension", "set", "-g", "Equal", "--vm-name", "box", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux")
	for g, n := range map[string]string{"Equal": "set", "Left" + tokens[0]: "bunch", "Left" + tokens[1]: "bunch"} {
		run(append([]string{"vmss", "create", "-g", g, "-n", n, "--instance-count", "1", "--assign-identity"}, vm...)...)
	}
	run("vmss", "extension", "set", "-g", "Equal", "--vmss-name", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux")
	run("vmss", "update-instances", "-g", "Equal", "-n", "set", "--instance-ids", "*")
	bob := run("ad", "user", "create", "--display-name", "Equal Ümlaut", "--user-principal-name", "bob@"+domain, "--password", userPass, "--query", "id", "-o", "tsv")
	owner := run("ad", "user", "create", "--display-name", "Equal Reader", "--user-principal-name", "reader@"+domain, "--password", userPass, "--query", "id", "-o", "tsv")
	crew := run("ad", "group", "create", "--display-name", "Crew", "--mail-nickname", "crew", "--description", "The crew", "--query", "id", "-o", "tsv")
	run("ad", "group", "member", "add", "-g", "Crew", "--member-id", bob)
	run("ad", "group", "create", "--display-name", "Fleet", "--mail-nickname", "fleet")
	run("ad", "group", "member", "add", "-g", "Fleet", "--member-id", crew)
	run("ad", "group", "owner", "add", "-g", "Crew", "--owner-object-id", owner)
	run("ad", "group", "owner", "add", "-g", "Fleet", "--owner-object-id", run("ad", "signed-in-user", "show", "--query", "id", "-o", "tsv"))
	owned := run("ad", "app", "create", "--display-name", "Owned", "--query", "appId", "-o", "tsv")
	run("ad", "sp", "create", "--id", owned)
	run("ad", "app", "owner", "add", "--id", owned, "--owner-object-id", owner)
	app := run("ad", "app", "create", "--display-name", "Equal Portal", "--web-redirect-uris", "https://portal.example/cb", "--query", "appId", "-o", "tsv")
	run("ad", "sp", "create", "--id", app)
	run("role", "assignment", "create", "--assignee", "bob@"+domain, "--role", "Virtual Machine User Login", "-g", "Equal")
	run("role", "assignment", "create", "--assignee", "reader@"+domain, "--role", "Reader", "-g", "Equal")
	version := run("vm", "extension", "image", "list-versions", "-l", place, "-p", "Microsoft.Azure.ActiveDirectory", "-n", "AADSSHLoginForLinux", "--query", "[-1].name", "-o", "tsv")
	reader := setUp(t, "equal-reader", "reader@"+domain, userPass)
	reader.must(t, "login", "-u", reader.name, "-p", reader.password)
	if r := reader.run(theWorld.sally, "login", "--server", theWorld.address, "-u", reader.name, "-p", reader.password); r.code != 0 {
		t.Fatal(r)
	}
	e.people["r"] = reader
	e.people["s"] = setUp(t, "equal-leaver", "bob@"+domain, userPass)
	e.people["s"].env = append(e.people["s"].env, "SALLY_SERVER="+theWorld.address)
	known := []string{"$subid", strings.TrimPrefix(sub, "/subscriptions/"), "$sub", sub, "$rg", sub + "/resourceGroups/Equal", "$bob", bob, "$app", app, "$crew", crew, "$owner", owner, "$owned", owned,
		"$secret", run("ad", "sp", "credential", "reset", "--id", owned, "--query", "password", "-o", "tsv"), "$version", version, "$tenant", theWorld.tenant, "$url", theWorld.url, "$pass", userPass, "$cert", cert, "$key", "'" + strings.TrimSpace(string(public)) + "'"}
	for i, token := range tokens { // what az and sally each have of their own, to change and delete
		team := run("ad", "group", "create", "--display-name", "Mine "+token, "--mail-nickname", "mine"+token, "--query", "id", "-o", "tsv")
		mine := run("ad", "app", "create", "--display-name", "Kept "+token, "--query", "appId", "-o", "tsv")
		known = append(known, "$team"+token, team, "$mine"+token, mine, "$guid"+token, fmt.Sprintf("5a11ae90-0000-4000-8000-%012d", i+1), "$left"+token, sub+"/resourceGroups/Left"+token)
	}
	e.values = strings.NewReplacer(known...)
}

// real shows that the driver ends command lines as the real az does.
func (e *equality) real(t *testing.T) {
	for _, line := range []string{"group show -n Equal -o yaml", "vm show -g Equal -n nope", "group create", "role assignment list -g Equal -o table"} {
		exe, driven := e.people["a"].az(words(line)...), e.drivers["a"].az(words(line))
		if exe != driven {
			t.Errorf("az %s: %s\nin the driver: %s", line, exe, driven)
		}
	}
}

var errorCode = regexp.MustCompile(`(?m)^ERROR: \((\w+)\)`)

// compare runs a row in its formats, and once more where what both read may have
// changed in between. It returns how az ended in the first.
func (e *equality) compare(t *testing.T, r row) (first result) {
	t.Helper()
	own := strings.Contains(r.line, "~")
	for i, format := range r.formats {
		var differ []string
		for range 4 {
			az, sally := e.pair(r, format)
			if i == 0 {
				first = az
			}
			if differ = e.differences(r, format, az, sally); len(differ) == 0 || own || r.who == "s" {
				break
			}
		}
		if len(differ) > 0 {
			t.Errorf("%s (%s) -o %c:\n  %s", r.line, r.who, format, strings.Join(differ, "\n  "))
		}
	}
	return first
}

func (e *equality) pair(r row, format rune) (az, sally result) {
	var lines [2][]string
	for i := range lines {
		lines[i] = words(e.values.Replace(strings.ReplaceAll(r.line, "~", tokens[i])))
		if name, more := map[rune]string{'t': "table", 'v': "tsv", 'y': "yaml", 'c': "yamlc", 'J': "jsonc", 'n': "none"}[format]; more {
			lines[i] = append(lines[i], "-o", name)
		}
	}
	d := e.drivers[r.who]
	return d.az(lines[0]), d.sally(lines[1])
}

// differences are those that nothing excepts.
func (e *equality) differences(r row, format rune, az, sally result) []string {
	var out []string
	if az.code != r.code {
		out = append(out, fmt.Sprintf("az ends with %d, equal.txt says %d: %s", az.code, r.code, az.err))
	}
	if az.code != sally.code && !e.exceptions.has(r.line, "exit") {
		out = append(out, fmt.Sprintf("exit: az %d, sally %d: %s", az.code, sally.code, sally.err))
	}
	code := errorCode.FindStringSubmatch(az.err)
	if code != nil && !slices.Equal(code, errorCode.FindStringSubmatch(sally.err)) && !e.exceptions.has(r.line, "code") {
		out = append(out, fmt.Sprintf("code: az %s, sally says %s", code[1], sally.err))
	}
	if strings.TrimSpace(sally.err) == "" && sally.code != 0 {
		out = append(out, "sally does not say why")
	}
	if strings.Contains(r.line, "~") {
		az.out, sally.out = masked(az.out, sally.out, tokens[0]), masked(sally.out, az.out, tokens[1])
	}
	if az.out == sally.out || e.exceptions.has(r.line, "out") {
		return out
	}
	if format != 'j' {
		if !e.exceptions.has(r.line, "text") {
			out = append(out, "az\n"+az.out+"sally\n"+sally.out)
		}
		return out
	}
	var x, y any
	if json.Unmarshal([]byte(az.out), &x) != nil || json.Unmarshal([]byte(sally.out), &y) != nil {
		return append(out, "az\n"+az.out+"sally\n"+sally.out)
	}
	paths := jsonDifferences(x, y, "")
	if len(paths) == 0 {
		out = append(out, "the same values in other words: az\n"+az.out+"sally\n"+sally.out)
	}
	for _, p := range paths {
		if path, _, _ := strings.Cut(p, ":"); !e.exceptions.has(r.line, path) {
			out = append(out, p)
		}
	}
	return out
}
