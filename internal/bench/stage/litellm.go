package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// LiteLLMVersion is the release that is measured.
const LiteLLMVersion = "1.108.7"

// liteLLMStart bounds a start, in which it reads a lot of Python.
const liteLLMStart = 3 * time.Minute

// InstallLiteLLM installs the proxy from PyPI, once, into the user's cache directory (some 750 MB), and returns its
// Python.
func InstallLiteLLM(ctx context.Context) (python string, err error) {
	return envoyrun.PythonVenv(ctx, "litellm", "litellm[proxy]=="+LiteLLMVersion)
}

// StartLiteLLM starts it in front of an upstream, in a folder that is its own, and returns where it listens. It has no
// budgets, no database and no keys to check, does not try again, and is one process.
func StartLiteLLM(ctx context.Context, python, upstream, dir string) (p *Process, addr string, err error) {
	if addr, err = envoyrun.FreeAddress(); err != nil {
		return nil, "", err
	}
	config := filepath.Join(dir, "litellm.yaml")
	// Headers are forwarded for the upstream's sake, which is told by one what to answer.
	err = os.WriteFile(config, fmt.Appendf(nil, `model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_base: "%s/v1", api_key: none}
litellm_settings: {telemetry: false, num_retries: 0}
general_settings: {forward_client_headers_to_llm_api: true, dangerously_permit_weak_or_unset_master_key: true}
`, upstream), 0o600)
	if err != nil {
		return nil, "", err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, "", err
	}
	defer log.Close() // the server has its own
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(python, "-c", "from litellm import run_server; run_server()",
		"--config", config, "--host", host, "--port", port, "--num_workers", "1")
	cmd.Env = append(os.Environ(), "LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_LOG=ERROR") // no prices from the internet
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if p, err = start("LiteLLM", cmd); err != nil {
		return nil, "", err
	}
	p.dies = true
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
			p = nil
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, liteLLMStart)
	defer cancel()
	for {
		if err := alive(ctx, "http://"+addr+"/health/liveliness"); err == nil {
			return p, addr, nil
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(log.Name()) // what there is of it
			return p, "", fmt.Errorf("LiteLLM does not serve; its log ends with: %s", text[max(0, len(text)-2000):])
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// alive asks for a page.
func alive(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// SaysWhole reports whether an answer says what a whole one does, in whatever shape.
func SaysWhole(answer []byte) error {
	const said = "starts with the delay of the first. Set it to zero after a success"
	if !strings.Contains(string(answer), said) {
		return fmt.Errorf("the answer, %d bytes long, does not say what the upstream's does", len(answer))
	}
	return nil
}
