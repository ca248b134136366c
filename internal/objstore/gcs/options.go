package gcs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/weirstream/weir/internal/objstore"
)

// Options configures New of one bucket. A zero field means its default.
type Options struct {
	Bucket string // required
	Prefix string // keys are below it; none

	// Endpoint is the URL of the server: STORAGE_EMULATOR_HOST, which means Anonymous
	// too, else Google's own.
	Endpoint  string
	Anonymous bool // send no credentials: emulators, and public buckets

	// CredentialsFile names a file of credentials in Google's JSON form,
	// CredentialsJSON holds one. Neither: GOOGLE_SERVICE_ACCOUNT and
	// GOOGLE_SERVICE_ACCOUNT_KEY, else what Google's own tools find:
	// GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, the machine's own account.
	CredentialsFile, CredentialsJSON string

	// PartBytes is the size of one request of a large object, a multiple of 256 KiB,
	// and of the largest body sent in one request; 8 MiB.
	PartBytes int64

	Tries int // of a request that may be repeated; 3

	// ResponseTimeout bounds the wait for the first byte of an answer; 60s. A write
	// that exceeds it is ambiguous.
	ResponseTimeout time.Duration
}

const (
	minPart = 256 << 10 // chunks of a resumable upload are multiples of it
	public  = "https://storage.googleapis.com"
)

// fill sets the defaults, reading the environment by env, and reports all that is
// wrong.
func (o *Options) fill(env func(string) string) error {
	if o.PartBytes == 0 {
		o.PartBytes = 8 << 20
	}
	if o.Tries == 0 {
		o.Tries = 3
	}
	if o.ResponseTimeout == 0 {
		o.ResponseTimeout = time.Minute
	}
	var errs []error
	if err := o.fillCredentials(env); err != nil {
		errs = append(errs, err)
	}
	if host := env("STORAGE_EMULATOR_HOST"); o.Endpoint == "" && host != "" {
		if !strings.Contains(host, "://") {
			host = "http://" + host
		}
		o.Endpoint, o.Anonymous = host, true
	}
	if o.Endpoint == "" {
		o.Endpoint = public
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	o.Prefix = strings.Trim(o.Prefix, "/")
	if o.Bucket == "" {
		errs = append(errs, errors.New("the bucket is missing: want gs://bucket/prefix"))
	}
	if o.Prefix != "" {
		if err := objstore.CheckKey(o.Prefix); err != nil {
			errs = append(errs, fmt.Errorf("prefix: %w", err))
		}
	}
	if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("endpoint %q: want http://host:port or https://host", o.Endpoint))
	}
	if o.PartBytes < minPart || o.PartBytes%minPart != 0 {
		errs = append(errs, fmt.Errorf("part_bytes %d is not a multiple of %d", o.PartBytes, minPart))
	}
	if o.Tries < 1 {
		errs = append(errs, fmt.Errorf("tries %d is below 1", o.Tries))
	}
	if o.ResponseTimeout < 0 {
		errs = append(errs, fmt.Errorf("response_timeout %v is negative", o.ResponseTimeout))
	}
	return errors.Join(errs...)
}

// fillCredentials loads the credentials that are named. Like delta-rs it takes the
// endpoint, and that there is nothing to sign with, from gcs_base_url and
// disable_oauth in them, which is how emulators are named there.
func (o *Options) fillCredentials(env func(string) string) error {
	if o.CredentialsFile != "" && o.CredentialsJSON != "" {
		return errors.New("give credentials or credentials_json, not both")
	}
	if o.CredentialsFile == "" && o.CredentialsJSON == "" && !o.Anonymous {
		o.CredentialsFile = cmp.Or(env("GOOGLE_SERVICE_ACCOUNT"), env("GOOGLE_SERVICE_ACCOUNT_PATH"))
		if o.CredentialsFile == "" {
			o.CredentialsJSON = env("GOOGLE_SERVICE_ACCOUNT_KEY")
		}
	}
	if o.CredentialsFile != "" {
		b, err := os.ReadFile(o.CredentialsFile)
		if err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
		o.CredentialsJSON = string(b)
	}
	if o.CredentialsJSON == "" {
		return nil
	}
	var c struct {
		BaseURL      string `json:"gcs_base_url"`
		DisableOAuth bool   `json:"disable_oauth"`
	}
	if err := json.Unmarshal([]byte(o.CredentialsJSON), &c); err != nil {
		return errors.New("credentials: this is not JSON") // the cause would quote a secret
	}
	if o.Endpoint == "" {
		o.Endpoint = c.BaseURL
	}
	o.Anonymous = o.Anonymous || c.DisableOAuth
	return nil
}

// Open opens the bucket that u names: gs://bucket/prefix with any of the options
//
//	endpoint anonymous credentials credentials_json part_bytes tries response_timeout
//
// where delta-rs's names for the same, google_service_account and its like, are
// taken too. It makes no request: what is wrong with the bucket is told by the first
// call. It is an objstore.Opener.
func Open(ctx context.Context, u *url.URL) (objstore.Store, error) {
	opts, err := parseURL(u)
	if err != nil {
		return nil, fmt.Errorf("objstore/gcs: open gs://%s%s: %w", u.Host, u.Path, err)
	}
	return New(ctx, opts)
}

// aliases are delta-rs's names of options.
var aliases = map[string]string{
	"base_url": "endpoint", "skip_signature": "anonymous",
	"service_account": "credentials", "service_account_path": "credentials", "application_credentials": "credentials",
	"service_account_key": "credentials_json",
}

func parseURL(u *url.URL) (Options, error) {
	o := Options{Bucket: u.Host, Prefix: u.Path}
	err := objstore.URLOptions{
		"endpoint": &o.Endpoint, "anonymous": &o.Anonymous, "credentials": &o.CredentialsFile, "credentials_json": &o.CredentialsJSON,
		"part_bytes": &o.PartBytes, "tries": &o.Tries, "response_timeout": &o.ResponseTimeout,
	}.Parse(u.Query(), func(name string) string {
		name = strings.TrimPrefix(strings.ToLower(name), "google_")
		return cmp.Or(aliases[name], name)
	})
	return o, err
}
