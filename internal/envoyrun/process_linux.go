package envoyrun

import "syscall"

// sysProcAttr makes the kernel kill Envoy when this process dies, and keeps a
// Ctrl-C at the terminal away from it: stopping it is for Close.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
