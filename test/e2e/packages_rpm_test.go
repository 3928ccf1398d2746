//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// wholeRPMs prints the packages as wholeDebs does. rpm compares every file with what
// it has noted, and no file of an rpm that was killed is left.
const wholeRPMs = `rpm -q --qf '%{NAME} %{VERSION}-%{RELEASE} install ok\n' sallyport sallyport-agent; rpm -V sallyport sallyport-agent && test -z "$(find /etc /usr -xdev -name '*;????????')"`

// otherNames is a package that has what ours need by the names that systems of rpm
// give it: Debian has it under others.
const otherNames = `Name: other-names
Version: 1
Release: 1
Summary: What Debian calls otherwise
License: none
BuildArch: noarch
Provides: /usr/sbin/sshd pam /usr/sbin/useradd libc.so.6(GLIBC_2.17)(64bit)
%description
What Debian calls otherwise.
%files
`

// rpmMachine is a Debian 12 machine with this computer's rpm, Debian's own, whose
// agent comes from our rpm packages. Debian looks for libraries in other folders.
func rpmMachine(t *testing.T, w *world, ring string) ringed {
	t.Helper()
	m := w.barely(t, "rings-rpm", debian12, "--tags", "ring="+ring)
	m.give(t, "/root/rpm.tar", bytes.NewReader(rpmHere(t)))
	for _, name := range []string{"sallyport", "sallyport-agent"} {
		m.giveFile(t, "/root/"+name+".rpm", w.path("packages/"+name+"-"+ringsOld+"-1.x86_64.rpm"))
	}
	m.giveFile(t, "/root/names.rpm", rpmOfOtherNames(t))
	m.mustSuper(t, `tar -C / --skip-old-files -xf /root/rpm.tar && mkdir -p /etc/rpm && echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
ln -s /lib64/libnss_sallyport.so.2 /lib/x86_64-linux-gnu/ && ln -s /lib64/security/pam_sallyport.so /lib/x86_64-linux-gnu/security/
rpm -i /root/names.rpm && rpm -i /root/sallyport.rpm /root/sallyport-agent.rpm && rm /root/*.rpm /root/rpm.tar`)
	m.joinByHand(t)
	m.extend(t)
	return ringed{m, packageUser(t, w, m, "rings-rpm"), wholeRPMs}
}

// rpmHere is this computer's rpm, and the libraries that it needs, as an archive.
func rpmHere(t *testing.T) []byte {
	t.Helper()
	out, err := exec.Command("sh", "-c", `set -eu
{
	dpkg -L rpm rpm-common | while read -r file; do [ ! -f "$file" ] || echo "$file"; done
	ldd /usr/bin/rpm | awk '$2 == "=>" { print $3 }' | while read -r file; do echo "/usr$file"; readlink -f "$file"; done
} | sed 's|^/||' | sort -u | tar -C / -cf - -T -`).Output()
	if err != nil {
		t.Fatalf("this computer's rpm: %v", err)
	}
	return out
}

func rpmOfOtherNames(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	spec := filepath.Join(dir, "names.spec")
	if err := os.WriteFile(spec, []byte(otherNames), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_tmppath "+dir, "--dbpath", dir, spec)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rpmbuild: %v: %s", err, out)
	}
	return filepath.Join(dir, "RPMS/noarch/other-names-1-1.noarch.rpm")
}
