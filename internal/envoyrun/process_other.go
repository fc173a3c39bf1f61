//go:build !linux

package envoyrun

import "syscall"

// sysProcAttr leaves Envoy in this process's group, so that at least a Ctrl-C
// reaches both.
func sysProcAttr() *syscall.SysProcAttr { return nil }
