package cluster

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// patience is how long a server may take to start and to end, on a machine that does other things.
const patience = 5 * time.Minute

// api is the server that all tests ask.
var api *cluster

func TestMain(m *testing.M) {
	code, err := withServers(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withServers runs the tests between the servers' start and their end.
func withServers(run func() int) (int, error) {
	runtime.LockOSThread() // the servers are killed when the thread ends that started them
	dir, err := os.MkdirTemp("", "tokenbudget-cluster-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	etcd, etcdURL, err := startEtcd(dir)
	if err != nil {
		return 0, err
	}
	defer etcd.stop()
	server, config, err := startAPI(dir, etcdURL)
	if err != nil {
		return 0, err
	}
	defer server.stop()
	if api, err = connect(config); err != nil {
		return 0, err
	}
	return run(), nil
}

// process is a server. Its log is shown if it fails to start.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// start runs the program that a variable names, and waits until the URL answers 200.
func start(dir, variable, ready string, client *http.Client, args ...string) (*process, error) {
	program := os.Getenv(variable)
	if program == "" {
		return nil, errors.New(variable + " does not name a program: run make cluster-check, which builds it")
	}
	log, err := os.Create(filepath.Join(dir, variable+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{exec.Command(program, args...), log.Name(), make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	for deadline := time.After(patience); ; {
		if answer, err := client.Get(ready); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		select {
		case <-p.ended:
			return nil, p.broken("has ended")
		case <-deadline:
			p.stop()
			return nil, p.broken("is not ready after " + patience.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// broken is an error with the end of the log.
func (p *process) broken(what string) error {
	log, _ := os.ReadFile(p.log)
	return fmt.Errorf("%s %s; its log ends with:\n%s", p.cmd.Path, what, log[max(0, len(log)-4000):])
}

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second): // what it keeps is thrown away
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// startEtcd returns the URL for clients, too.
func startEtcd(dir string) (*process, string, error) {
	client, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	peer, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	p, err := start(dir, "ETCD", "http://"+client+"/health", &http.Client{Timeout: 10 * time.Second},
		"--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	return p, "http://" + client, err
}

// startAPI starts kube-apiserver with the admission that clusters have by default. It has one
// user, who may do everything.
func startAPI(dir, etcd string) (*process, *rest.Config, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	keys, tokens, token := filepath.Join(dir, "keys.pem"), filepath.Join(dir, "tokens.csv"), rand.Text()
	err = errors.Join(
		os.WriteFile(keys, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(tokens, []byte(token+",check,check,system:masters\n"), 0o600))
	if err != nil {
		return nil, nil, err
	}
	// The certificate is one that the server makes for itself, on loopback.
	config := &rest.Config{Host: "https://" + address, BearerToken: token, QPS: -1, Timeout: time.Minute, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	p, err := start(dir, "KUBE_APISERVER", config.Host+"/readyz", client,
		"--bind-address", host, "--secure-port", port, "--advertise-address", "192.0.2.1", "--cert-dir", filepath.Join(dir, "certs"),
		"--etcd-servers", etcd, "--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC", "--token-auth-file", tokens,
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", keys, "--service-account-signing-key-file", keys)
	return p, config, err
}

// freeAddress is one of loopback that nobody listens on.
func freeAddress() (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return lis.Addr().String(), lis.Close()
}
