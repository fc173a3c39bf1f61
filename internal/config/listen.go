package config

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/internal/certs"
)

// Listen says where the servers listen: "host:port", or "unix:" and an absolute path.
// A Unix socket never has TLS.
type Listen struct {
	ExtProc    string       // Envoy's external processing
	Admin      string       // health, metrics, usage; "" if the file says none
	ExtProcTLS *certs.Files // nil: cleartext
	AdminTLS   *certs.Files
}

// AdminGuarded says whether reading over the admin address, health apart, needs a
// proof: a certificate that client_ca has signed, or the admin token, of those that the
// file names. Where only this machine can reach the address, the token is not asked for.
func (c *Config) AdminGuarded() bool {
	t := c.Listen.AdminTLS
	return t != nil && t.ClientCA != "" || c.AdminToken != "" && c.Listen.Admin != "" && !Loopback(c.Listen.Admin)
}

// listenKeys is what the section listen says that is not yet settled when it ends.
type listenKeys struct {
	tls            *certs.Files // for both
	key            *node        // of tls
	extProc, admin ownTLS
}

// ownTLS is the key tls of one address.
type ownTLS struct {
	tls *certs.Files // nil for none
	key *node        // nil if the address has no such key
}

// listen decodes the addresses, and TLS for both or for each.
func (d *decoder) listen(c *Config, l *listenKeys) setter {
	return d.section(fields{
		"extproc": d.listener(&c.Listen.ExtProc, parseAddress, &l.extProc),
		"admin":   d.listener(&c.Listen.Admin, parseAdminAddress, &l.admin),
		"tls": func(key, n *node) {
			l.key = key
			d.tls(&l.tls)(key, n)
		},
	}, refusals{
		"insecure": {"insecure does not belong here", "move it to the top level of the file"},
	})
}

// listener decodes an address, or {address: …, tls: …}.
func (d *decoder) listener(address *string, parse func(string) (string, error), own *ownTLS) setter {
	return func(key, n *node) {
		if n.Kind != yaml.MappingNode {
			value(d, address, parse)(key, n)
			return
		}
		d.object(quote(key.Value), n, fields{
			"address": value(d, address, parse),
			"tls": func(key, n *node) {
				own.key = key
				if n.Kind != yaml.ScalarNode || n.Value != "none" {
					d.tls(&own.tls)(key, n)
				}
			},
		}, nil)
	}
}

// tls decodes the names of files, and checks what they hold unless others will use them.
func (d *decoder) tls(dst **certs.Files) setter {
	return func(key, n *node) {
		f := new(certs.Files)
		seen := d.object(quote(key.Value), n, fields{
			"cert":      value(d, &f.Cert, parseFile),
			"key":       value(d, &f.Key, parseFile),
			"client_ca": value(d, &f.ClientCA, parseFile),
		}, nil)
		d.require(n, seen, "tls", "cert", "cert: ./tls.crt")
		d.require(n, seen, "tls", "key", "key: ./tls.key")
		*dst = f
		if f.Cert == "" || f.Key == "" || seen["client_ca"] != nil && f.ClientCA == "" || d.remote {
			return
		}
		set, err := certs.Load(*f)
		if err != nil {
			problems, _ := errors.AsType[certs.Problems](err) // what Load promises
			d.reportFiles(f, problems, d.fail)
			return
		}
		d.reportFiles(f, set.Warnings(time.Now()), d.warn)
	}
}

// reportFiles reports problems with files where the configuration names them.
func (d *decoder) reportFiles(f *certs.Files, problems certs.Problems, report func(n *node, hint, format string, args ...any)) {
	for _, p := range problems {
		part := map[certs.Part]struct {
			key string
			at  *string
		}{certs.Cert: {"cert", &f.Cert}, certs.Key: {"key", &f.Key}, certs.ClientCA: {"client_ca", &f.ClientCA}}[p.Part]
		n := d.at[part.at]
		report(n, p.Hint, "%s %s: %s", part.key, quote(n.Value), p.Msg)
	}
}

// closeHint is what can be done about an address that is open, besides TLS.
const closeHint = "listen on 127.0.0.1 or unix:/path, or set insecure: true and let the network keep strangers out"

// settleListen says what TLS each address has, and checks that no stranger is served
// unless the file says insecure. token says whether there is an admin token, good or bad.
func (d *decoder) settleListen(c *Config, l *listenKeys, token bool) {
	d.settleTLS(c.Listen.ExtProc, &c.Listen.ExtProcTLS, l, l.extProc)
	d.settleTLS(c.Listen.Admin, &c.Listen.AdminTLS, l, l.admin)
	if l.key != nil && l.tls != nil && c.Listen.ExtProcTLS != l.tls && c.Listen.AdminTLS != l.tls {
		d.warn(l.key, "remove it", "tls has no effect, because no address uses it")
	}
	if n := d.exposed(&c.Listen.ExtProc); n != nil && !c.Insecure {
		switch t := c.Listen.ExtProcTLS; {
		case t == nil:
			d.fail(n, "add listen.tls: {cert: …, key: …, client_ca: …}; or "+closeHint, "%s can be reached from other machines, without TLS", quote(n.Value))
		case t.ClientCA == "":
			d.fail(n, "add client_ca to its tls, so that only Envoy may talk to it; or "+closeHint,
				"%s can be reached from other machines, and anybody could pose as Envoy", quote(n.Value))
		}
	}
	if n := d.exposed(&c.Listen.Admin); n != nil && !c.Insecure {
		switch t := c.Listen.AdminTLS; {
		case t == nil:
			d.fail(n, "add listen.tls: {cert: …, key: …, client_ca: …}; or "+closeHint, "%s can be reached from other machines, without TLS", quote(n.Value))
		case t.ClientCA == "" && !token:
			d.fail(n, "add client_ca to its tls, or admin_token; or "+closeHint,
				"%s can be reached from other machines, and anybody could read who uses how much", quote(n.Value))
		}
	}
	// Both cannot be defaults, so that one of them has a position. Port 0 is another
	// port each time.
	if c.Listen.ExtProc == c.Listen.Admin && !strings.HasSuffix(c.Listen.Admin, ":0") {
		n := cmp.Or(d.at[&c.Listen.Admin], d.at[&c.Listen.ExtProc])
		d.fail(n, "give each its own", "extproc and admin cannot listen on the same address")
	}
}

// settleTLS gives an address its own TLS, or else that for both.
func (d *decoder) settleTLS(address string, dst **certs.Files, l *listenKeys, own ownTLS) {
	switch unix := strings.HasPrefix(address, "unix:"); {
	case own.tls != nil && (unix || address == ""):
		d.fail(own.key, "remove it, or listen on host:port", "only addresses host:port have TLS")
	case own.key != nil:
		*dst = own.tls
	case !unix && address != "":
		*dst = l.tls
	}
}

// exposed returns where the file sets an address, if other machines can reach it.
func (d *decoder) exposed(address *string) *node {
	if n := d.at[address]; n != nil && *address != "" && !Loopback(*address) {
		return n
	}
	return nil
}

// warnListen tells of addresses that serve strangers, and of keys that do nothing.
func (d *decoder) warnListen(c *Config) {
	needed := false // insecure is
	if n := d.exposed(&c.Listen.ExtProc); n != nil {
		t := c.Listen.ExtProcTLS
		needed = needed || t == nil || t.ClientCA == ""
		switch {
		case !c.Insecure:
		case t == nil:
			d.warn(n, "keep strangers out by other means", "%s serves everybody who can reach it, without encryption", quote(n.Value))
		case t.ClientCA == "":
			d.warn(n, "add client_ca, or keep strangers out by other means", "%s serves everybody who can reach it", quote(n.Value))
		}
	}
	if n := d.exposed(&c.Listen.Admin); n != nil {
		t, guarded := c.Listen.AdminTLS, c.AdminGuarded()
		needed = needed || t == nil || !guarded
		switch {
		case !c.Insecure:
		case t == nil && guarded:
			d.warn(n, "add tls, or keep strangers out by other means", "%s has no encryption: who can listen on the network can read the admin token", quote(n.Value))
		case t == nil:
			d.warn(n, "keep strangers out by other means", "%s serves everybody who can reach it, without encryption", quote(n.Value))
		case !guarded:
			d.warn(n, "add client_ca or admin_token, or keep strangers out by other means", "%s serves everybody who can reach it", quote(n.Value))
		}
	}
	if n := d.at[&c.Insecure]; n != nil && c.Insecure && !needed {
		d.warn(n, "remove it", "insecure has no effect, because nothing serves strangers beyond loopback")
	}
	if n := d.at[&c.AdminToken]; n != nil && c.Listen.Admin == "" {
		d.warn(n, "remove it, unless you use it later", "the admin token has no effect, because listen.admin is none")
	}
}
