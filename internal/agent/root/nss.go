package root

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sallyport/internal/agent/shim"
)

// healEvery is how often the name service file is looked at (one lstat(2)), and
// healPause how many looks a repair that failed is not tried again.
const (
	healEvery = time.Second
	healPause = 10
)

// nssWritten is what the worker last wrote into the name service file.
type nssWritten struct {
	content string
	mark    string // of the file, right after
	pause   int    // looks to let pass
}

// nssMark is a cheap sign of whether the name service file is still the one that
// was written: whatever is done to its content or owner moves its change time.
// It is "" for a file that is not there.
func (s *Service) nssMark() string {
	info, err := os.Lstat(s.at(nssPath))
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mode, st.Uid, st.Ctim)
}

// heal writes the name service file again when it is not as it was left: removed,
// cut off, overwritten, or never written because the disk was full. Until then
// nobody of ours has an account here, and sshd says nothing but "Permission
// denied".
func (s *Service) heal(last *attempt) {
	v := s.now()
	if v.doc == nil || last.nss.mark != "" && last.nss.mark == s.nssMark() {
		return
	}
	if last.nss.pause > 0 {
		last.nss.pause--
		return
	}
	if err := s.writeNSS(v, last); err != nil {
		last.nss.pause = healPause
		s.cfg.Log("name service file: it is damaged and cannot be repaired: %v", err)
		return
	}
	if CheckNSS(s.cfg.Root) != nil { // damaged again before its mark was taken
		last.nss.mark = ""
		return
	}
	s.cfg.Log("name service file: it was damaged and is repaired")
}

// CheckNSS reads all of the name service file, for doctor.
func CheckNSS(root string) error {
	_, err := shim.ReadNSS(filepath.Join(root, nssPath))
	return err
}
