package inside

import "golang.org/x/sys/unix"

// auditArch names this architecture to the system-call filter.
const auditArch = unix.AUDIT_ARCH_AARCH64
