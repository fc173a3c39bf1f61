//go:build !unix || solaris || aix

package envoyrun

import (
	"context"
	"fmt"
	"runtime"
)

// lockFile fails: without a lock nothing is installed.
func lockFile(context.Context, string) (func(), error) {
	return nil, fmt.Errorf("nothing can be installed automatically on %s", runtime.GOOS)
}
