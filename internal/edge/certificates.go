package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// reloadInterval is how often the files are looked at. Their content tells, not a notice of the file system: Kubernetes exchanges
// a symbolic link two folders above.
const reloadInterval = 10 * time.Second

// Certificates are a server's certificate and its key, read again when their files change.
type Certificates struct {
	certFile, keyFile string
	log               *slog.Logger
	metrics           *Metrics
	current           atomic.Pointer[tls.Certificate]

	cert, key []byte // the files' content that is in use; of Run's goroutine
	problem   string // with newer content, as the log was told; empty: none
}

// LoadCertificates reads PEM files: the certificate with its intermediates, and the private key. Metrics may be nil.
func LoadCertificates(certFile, keyFile string, log *slog.Logger, m *Metrics) (*Certificates, error) {
	if m == nil {
		m = NewMetrics(nil)
	}
	c := &Certificates{certFile: certFile, keyFile: keyFile, log: log, metrics: m}
	var err error
	if c.cert, c.key, err = c.read(); err != nil {
		return nil, err
	}
	pair, err := parsePair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with the key %s: %w", certFile, keyFile, err)
	}
	c.use(pair)
	if expired(pair.Leaf) {
		log.Warn("the TLS certificate has expired; clients will refuse it", "file", certFile, "not_after", pair.Leaf.NotAfter)
	}
	return c, nil
}

// NotAfter is when the certificate in use expires.
func (c *Certificates) NotAfter() time.Time { return c.current.Load().Leaf.NotAfter }

// Run looks at the files until ctx ends. Open connections keep what they have; new ones get the new certificate.
func (c *Certificates) Run(ctx context.Context) error {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			c.reload()
		}
	}
}

// reload takes what the files hold now if it is good; if not, the old certificate stays, and the log tells once for each problem.
func (c *Certificates) reload() {
	problem := func(err error) {
		if c.problem != err.Error() {
			c.problem = err.Error()
			c.log.Error("the new TLS certificate is not used, the old one stays", "file", c.certFile, "key_file", c.keyFile,
				"not_after", c.NotAfter(), "error", err)
		}
	}
	cert, key, err := c.read()
	if err != nil {
		problem(err)
		return
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		c.problem = ""
		return
	}
	pair, err := parsePair(cert, key)
	if err == nil && expired(pair.Leaf) {
		err = fmt.Errorf("it expired at %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		problem(err)
		return
	}
	c.cert, c.key, c.problem = cert, key, ""
	c.use(pair)
	c.log.Info("TLS certificate replaced", "file", c.certFile, "not_after", pair.Leaf.NotAfter)
}

func (c *Certificates) read() (cert, key []byte, err error) {
	if cert, err = os.ReadFile(c.certFile); err != nil {
		return nil, nil, fmt.Errorf("read the TLS certificate: %w", err)
	}
	if key, err = os.ReadFile(c.keyFile); err != nil {
		return nil, nil, fmt.Errorf("read the TLS key: %w", err)
	}
	return cert, key, nil
}

// parsePair fails for a key of another certificate too: one of the two files was replaced already, and the other was not yet.
func parsePair(cert, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		return nil, errors.New("there is no certificate in it")
	}
	return &pair, nil
}

func expired(leaf *x509.Certificate) bool { return time.Now().After(leaf.NotAfter) }

func (c *Certificates) use(pair *tls.Certificate) {
	c.current.Store(pair)
	c.metrics.expiry.Set(float64(pair.Leaf.NotAfter.Unix()))
}

// get implements tls.Config.GetCertificate.
func (c *Certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}
