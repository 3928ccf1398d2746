package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// archCalls are what the other architectures of this build spell otherwise.
func archCalls() []uint32 { return []uint32{unix.SYS_FSTATAT} }
