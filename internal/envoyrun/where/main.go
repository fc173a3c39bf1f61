// Command where prints the path of what the scripts of examples/ need, and installs it if it
// is not there:
//
//	where envoy                    an Envoy binary, as [envoyrun.Find] finds it
//	where python NAME FILE         a Python with the packages of a requirements file, by [envoyrun.PythonVenv]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	path, err := find(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func find(ctx context.Context, args []string) (string, error) {
	switch {
	case len(args) == 1 && args[0] == "envoy":
		return envoyrun.Find(ctx)
	case len(args) == 3 && args[0] == "python":
		requirements, err := os.ReadFile(args[2])
		if err != nil {
			return "", err
		}
		return envoyrun.PythonVenv(ctx, args[1], strings.Fields(string(requirements))...)
	}
	return "", errors.New("usage: where envoy, or where python NAME FILE")
}
