package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"sallyport/internal/agent/shim"
)

const (
	nameUsers  = 100_000
	nameLines  = 30
	nameRounds = 15
	nameCount  = 5000 // lookups of one process
)

// private runs $1 with a name service of its own: nothing of it is seen outside
// the mount namespace, and neither a cache daemon nor an agent inside.
const private = `set -eu
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /run
mkdir -m 0755 /var/lib/sallyport
cp "$1/nss.db" /var/lib/sallyport/nss.db
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/nsswitch.$2" /etc/nsswitch.conf
exec "$3" "$1/names.$2.$4" "$5"`

// names measures getpwnam through our module, with 100,000 users in its file
// and no agent, beside nss_files with 30 lines.
func (b *bench) names(ctx context.Context) ([]Row, error) {
	program, err := b.compile("getpwnam")
	if err != nil {
		return nil, err
	}
	if err := b.nameFiles(); err != nil {
		return nil, err
	}
	us := map[string][]float64{}
	for range nameRounds {
		for _, source := range []string{"files", "sallyport"} {
			for _, kind := range []string{"hit", "miss"} {
				took, err := b.lookups(ctx, program, source, kind)
				if err != nil {
					return nil, err
				}
				us[source+kind] = append(us[source+kind], median(took))
			}
		}
	}
	row := func(kind, name, note string) Row {
		ours, files := us["sallyport"+kind], us["files"+kind]
		ratio := median(ours) / median(files)
		return Row{Name: name, Measured: fmt.Sprintf("%.2f us", median(ours)), Beside: fmt.Sprintf("nss_files %.2f us", median(files)),
			Ratio: ratio, Bar: "<= 1.5", Verdict: atMost(ratio, 1.5), Note: note + fmt.Sprintf("; middle half of the rounds %s us and %s us", spread(ours, "%.2f"), spread(files, "%.2f"))}
	}
	return []Row{
		row("hit", "getpwnam, a known name", "100,000 users in our file, 30 lines in passwd, no agent; each source alone in nsswitch.conf"),
		row("miss", "getpwnam, an unknown name", "the unknown name has the shape and the domain of ours, so that the file is read"),
	}, nil
}

// nameFiles writes what the private name service consists of.
func (b *bench) nameFiles() error {
	dir := b.path("names")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	db := shim.Database{Domains: []string{domain}}
	for i := range uint32(nameUsers) {
		name := fmt.Sprintf("person%06d@%s", i, domain)
		db.Users = append(db.Users, shim.User{Name: name, UID: shim.IDMin + i, GID: shim.IDMin + i, Gecos: "A Person", Home: "/home/" + name, Shell: "/bin/bash", Groups: []uint32{shim.GIDUsers}})
	}
	if err := shim.WriteNSS(filepath.Join(dir, "nss.db"), db); err != nil {
		return err
	}
	var passwd, local, ours strings.Builder
	for i := range nameLines {
		fmt.Fprintf(&passwd, "account%02d:x:%d:%d:An Account:/home/account%02d:/bin/bash\n", i, 1000+i, 1000+i, i)
		fmt.Fprintf(&local, "account%02d\n", i)
	}
	for i := range 4096 {
		fmt.Fprintf(&ours, "person%06d@%s\n", i*(nameUsers/4096), domain)
	}
	for name, text := range map[string]string{
		"passwd": passwd.String(), "nsswitch.files": "passwd: files\n", "nsswitch.sallyport": "passwd: sallyport\n",
		"names.files.hit": local.String(), "names.files.miss": "!nobodyknown\n",
		"names.sallyport.hit": ours.String(), "names.sallyport.miss": "!stranger@" + domain + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// lookups runs one process and returns the microseconds of its lookups.
func (b *bench) lookups(ctx context.Context, program, source, kind string) ([]float64, error) {
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "sh", "-c", private, "sh", b.path("names"), source, program, kind, strconv.Itoa(nameCount))
	shims, err := filepath.Abs(filepath.Join(b.top, "shim/out"))
	if err != nil {
		return nil, err
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + shims}
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	var took []float64
	for _, line := range strings.Fields(out) {
		ns, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return nil, err
		}
		took = append(took, ns/1000)
	}
	return took, nil
}
